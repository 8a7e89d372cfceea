"""Measures methods on a split, beside the reference, and writes the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from segjax.classical import STAGES
from segjax.classical.stages import Stages
from segjax.data.records import Source
from segjax.errors import InputError
from segjax.evaluation.evaluate import Evaluation, evaluate
from segjax.experiment import environment
from segjax.experiment.build import open_split, open_workdir
from segjax.experiment.classical import make_reference, make_stages
from segjax.experiment.classification import classified
from segjax.experiment.leaks import split_facts
from segjax.experiment.workdir import read_config, read_metadata
from segjax.files import write_json
from segjax.inference.predictor import Predictor
from segjax.metrics.proposals import ProposalStatistics
from segjax.report.evaluation_page import Example, write_report
from segjax.report.stages import busiest, draw_stages
from segjax.report.table import comparison, format_score
from segjax.segmentation import Method
from segjax.train.checkpoint import Checkpoints
from segjax.train.log import read_log


def evaluate_workdir(workdir: Path, split: str, *, seconds: float | None = None) -> str:
    """Evaluates a trained network beside the reference, and writes the report.

    Args:
      workdir: of a run that has a checkpoint.
      split: "train", "validation" or "test".
      seconds: that training took, for the report; from the run's last checkpoint if None.

    Returns:
      The comparison as a table to print. The report is in `<workdir>/report`, those of splits other than
      test in `<workdir>/report_<split>`.
    """
    config, description = read_config(workdir), read_metadata(workdir)
    source = open_split(config, split)
    if tuple(source.class_names) != description.class_names:
        raise InputError(
            f"{workdir} was trained for the classes {', '.join(description.class_names)}, but"
            f" {config.dataset.name} now has {', '.join(source.class_names)}: train anew in another --workdir"
        )
    predictor, step = open_workdir(workdir, config, description)
    proposals = _judge_proposals(predictor, source) if predictor.proposes else None
    if seconds is None:
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            seconds = checkpoints.progress(step)["seconds"]
    methods: dict[str, Method] = {
        "model": predictor,
        "reference": make_reference(config),
    }
    folder = workdir / ("report" if split == "test" else f"report_{split}")
    curve = _training_curve(workdir)
    table = _compare(
        methods,
        config,
        source,
        split,
        folder,
        train_seconds=seconds,
        step=step,
        curve=curve,
        proposals=proposals,
    )
    if proposals is None:
        return table
    return (
        f"{table}\nproposals: {proposals['mean_count'] or 0:.0f} in an image, with an IoU of 0.5 for"
        f" {format_score(proposals['recall'])} of the objects"
    )


def evaluate_classical(config: ConfigDict, split: str, folder: Path) -> str:
    """Evaluates methods without weights beside the reference.

    Where the data have several classes of instances, a classifier gives each instance its class. It is fitted
    on what the method makes of the training split, and written to `<folder>/classifier_<method>.json`.

    Args:
      config: of configs/classical.py.
      split: "train", "validation" or "test".
      folder: of the report, `metrics.json` and the classifiers.

    Returns:
      The comparison as a table to print.
    """
    source = open_split(config, split)
    names = sorted(config.methods, key=[*STAGES, *config.methods].index)  # a ConfigDict forgets their order
    methods = {name: classified(name, config, source.class_names, folder) for name in names}
    shown = {name: make_stages(name, config.methods[name]) for name in names}
    methods["reference"] = make_reference(config)
    return _compare(methods, config, source, split, folder, train_seconds=None, step=None, stages=shown)


def _compare(
    methods: dict[str, Method],
    config: ConfigDict,
    source: Source,
    split: str,
    folder: Path,
    *,
    train_seconds: float | None,
    step: int | None,
    curve: Sequence[Mapping[str, float]] = (),
    stages: Mapping[str, Callable[[np.ndarray], Stages]] | None = None,
    proposals: Mapping[str, float | None] | None = None,
) -> str:
    found: dict[str, Evaluation] = {}
    seconds: dict[str, float] = {}
    for name, method in methods.items():
        began = time.monotonic()
        found[name] = evaluate(
            method,
            source,
            source.class_names,
            headline=config.dataset.headline,
            keep_predictions=True,
            description=f"evaluate {name}",
        )
        seconds[name] = time.monotonic() - began
    first = next(iter(methods))
    metrics: dict[str, Any] = {
        "split": split,
        "methods": {name: evaluation.metrics for name, evaluation in found.items()},
        "seconds": {"train": train_seconds, "evaluate": seconds[first], "by_method": seconds},
        "step": step,
        "images": len(source),
        **split_facts(source),
        "per_image": {name: evaluation.per_image for name, evaluation in found.items()},
        "environment": environment.hardware_info(),
    }
    described = metrics["environment"] | split_facts(source) | {"config": config.to_dict()}
    if proposals is not None:
        metrics["proposals"] = proposals
        described = {"proposals": proposals} | described
    write_json(folder / "metrics.json", metrics)
    examples = [
        Example(
            record.name,
            record.image,
            record.truth,
            {name: evaluation.predictions[record.name] for name, evaluation in found.items()},
            {name: evaluation.per_image[record.name]["ap"]["0.5"] for name, evaluation in found.items()},
        )
        for record in (source[index] for index in range(len(source)))
    ]
    write_report(
        folder / "index.html",
        title=f"{config.dataset.name}: {split} split",
        class_names=source.class_names,
        metrics=metrics,
        examples=examples,
        curve=curve,
        stages=_stages_of_one(examples, stages or {}, source.class_names),
        environment=described,
        warnings=getattr(source, "leaks", ()),
    )
    return f"{comparison(metrics)}\n\nreport: {folder / 'index.html'}"


def _judge_proposals(predictor: Predictor, source: Source) -> dict[str, float | None]:
    """How many objects of a split can be found at all."""
    total = ProposalStatistics.empty()
    for index in tqdm(range(len(source)), desc="proposals", unit="image", leave=False):
        record = source[index]
        total += ProposalStatistics.of(record.truth, predictor.propose(record.image))
    return total.compute()


def _stages_of_one(
    examples: Sequence[Example],
    stages: Mapping[str, Callable[[np.ndarray], Stages]],
    class_names: Sequence[str],
) -> tuple[str, dict[str, list[tuple[str, np.ndarray]]]] | None:
    """The name of the typical image, and pictures of what each method makes of it on the way."""
    if not stages:
        return None
    falling = sorted(examples, key=lambda example: next(iter(example.scores.values())) or 0.0)
    typical = falling[len(falling) // 2]
    window = busiest(typical.truth.labels > 0)
    pictures = {
        name: draw_stages(typical.image, run(typical.image), class_names, window=window)
        for name, run in stages.items()
    }
    return typical.name, pictures


def _training_curve(workdir: Path) -> list[dict[str, float]]:
    """The losses of a run by step, without the prefixes of the log."""
    prefix = "train/"
    terms = ("skipped", "consecutive_skips")
    return [
        {"step": line["step"]}
        | {
            name.removeprefix(prefix): value
            for name, value in line.items()
            if name.startswith(prefix) and name.removeprefix(prefix) not in terms
        }
        for line in read_log(workdir / "log.jsonl")
        if f"{prefix}loss" in line
    ]
