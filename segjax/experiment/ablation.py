"""Searches the settings of methods without weights, on the training split."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from segjax.classical import make_method
from segjax.data.records import Record, Source
from segjax.errors import InputError, choose
from segjax.evaluation.evaluate import evaluate
from segjax.experiment import environment
from segjax.experiment.results_folder import open_results
from segjax.experiment.setup import open_split
from segjax.files import write_json
from segjax.report.table import OVERALL, format_score


class InMemorySubset:
    """Evenly spaced records of a source, held in memory because each is read many times."""

    def __init__(self, source: Source, count: int) -> None:
        self.class_names = source.class_names
        step = max(1, len(source) // count)
        self._records = [source[index] for index in range(0, len(source), step)][:count]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        return self._records[index]


def search(
    config: ConfigDict, tries: Iterable[Mapping[str, Any]], *, images: int, score: str, out: Path
) -> str:
    """Optimises one field after the other: each gets the value with the best score.

    Args:
      config: a config from configs/classical.py; the search starts from its values.
      tries: overrides of one field each, such as `{"methods.kmeans.num_clusters": 4}`.
      images: maximum number of images of the training split.
      score: one of `OVERALL`.
      out: folder for `ablation.json`, which is rewritten after every trial.

    Returns:
      The settings of each method that a better score changes, as text.

    Raises:
      InputError: if the config is that of a network, there is no such score or field, or `out` cannot be
        written.
    """
    if "methods" not in config:
        raise InputError("--config names a network: only methods without weights, as in configs/classical.py")
    rank = choose(OVERALL, "--score", score)
    open_results(out)
    source = InMemorySubset(open_split(config, "train"), images)
    by_field: dict[str, list[Any]] = {}
    for field, value in itertools.chain.from_iterable(override.items() for override in tries):
        by_field.setdefault(field, []).append(value)
    trials: list[dict[str, Any]] = []
    content = {"score": score, "images": len(source), "trials": trials}
    content["environment"] = environment.hardware_info()

    def measure(method: str, settings: ConfigDict) -> float:
        evaluation = evaluate(make_method(method, **settings), source, headline=config.dataset.headline)
        scores = {name: get(evaluation.scores) for name, get in OVERALL.items()}
        defined = {name: None if math.isnan(value) else value for name, value in scores.items()}
        trials.append(
            {"method": method, "settings": settings.to_dict(), "seconds": evaluation.seconds, **defined}
        )
        write_json(out / "ablation.json", content)
        return float(np.nan_to_num(rank(evaluation.scores), nan=-1.0))

    lines = []
    for method in config.methods:
        best = ConfigDict(config.methods[method].to_dict())
        first = top = measure(method, best)
        prefix = f"methods.{method}."
        fields = {field: values for field, values in by_field.items() if field.startswith(prefix)}
        for field, values in tqdm(fields.items(), desc=method, unit="field", leave=False):
            for value in values:
                settings = ConfigDict(best.to_dict() | {field.removeprefix(prefix): value})
                if settings != best and (result := measure(method, settings)) > top:
                    top, best = result, settings
        changes = {name: value for name, value in best.items() if value != config.methods[method][name]}
        lines.append(f"{method}: {score} {format_score(first)} -> {format_score(top)} with {changes}")
    return "\n".join([*lines, "", f"all trials: {out / 'ablation.json'}"])
