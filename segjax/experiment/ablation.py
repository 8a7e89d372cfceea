"""Searches the settings of methods without weights, on the training split alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from segjax.data.records import Record
from segjax.errors import InputError
from segjax.evaluation.evaluate import evaluate
from segjax.experiment import environment
from segjax.experiment.build import open_split
from segjax.experiment.classical import make_classical
from segjax.files import write_json
from segjax.report.table import OVERALL, format_score


class InMemorySubset:
    """Records of a source, evenly spread over it and held in memory, because each is read many times."""

    def __init__(self, source: Any, count: int) -> None:
        self.class_names: tuple[str, ...] = source.class_names
        step = max(1, len(source) // count)
        self._records = [source[index] for index in range(0, len(source), step)][:count]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        return self._records[index]


def search(
    config: ConfigDict, tries: Iterable[Mapping[str, Any]], *, images: int, score: str, out: Path
) -> str:
    """Tries one field after the other and keeps of each the value with the best score.

    Args:
      config: of configs/classical.py; its present values are where the search begins.
      tries: overrides of one field each, such as `{"methods.kmeans.num_clusters": 4}`.
      images: of the training split, at most.
      score: one of `OVERALL`, by which settings are ranked.
      out: folder for `ablation.json`, which is rewritten after every trial.

    Returns:
      What was found, for each method the settings to put into a config.

    Raises:
      InputError: if the config trains something, or there is no such score or field.
    """
    if "methods" not in config:
        raise InputError("--config names a network: only methods without weights, as in configs/classical.py")
    if score not in OVERALL:
        raise InputError(f"--score={score!r} is unknown: choose one of {', '.join(OVERALL)}")
    config = ConfigDict(config.to_dict())
    source = InMemorySubset(open_split(config, "train"), images)
    by_field: dict[str, list[Any]] = {}
    for field, value in itertools.chain.from_iterable(override.items() for override in tries):
        by_field.setdefault(field, []).append(value)
    trials: list[dict[str, Any]] = []

    def measure(method: str, settings: ConfigDict) -> float:
        began = time.monotonic()
        found = evaluate(
            make_classical(method, settings), source, source.class_names, headline=config.dataset.headline
        ).metrics
        value = OVERALL[score](found)
        seconds = time.monotonic() - began
        scores = {name: get(found) for name, get in OVERALL.items()}
        trials.append({"method": method, "settings": settings.to_dict(), "seconds": seconds, **scores})
        write_json(
            out / "ablation.json",
            {
                "score": score,
                "images": len(source),
                "trials": trials,
                "environment": environment.hardware_info(),
            },
        )
        return -1.0 if value is None else value

    lines = []
    for method in config.methods:
        best = ConfigDict(config.methods[method].to_dict())
        first = top = measure(method, best)
        fields = {
            field: values for field, values in by_field.items() if field.startswith(f"methods.{method}.")
        }
        for field, values in tqdm(fields.items(), desc=method, unit="field", leave=False):
            name = field.removeprefix(f"methods.{method}.")
            for value in values:
                settings = ConfigDict(best.to_dict() | {name: value})
                if settings != best and (reached := measure(method, settings)) > top:
                    top, best = reached, settings
        lines.append(f"{method}: {score} {format_score(first)} -> {format_score(top)} with {best.to_dict()}")
    return "\n".join([*lines, "", f"all trials: {out / 'ablation.json'}"])
