"""Measures methods on a split, beside the reference, and writes the report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from segjax.data.records import Source
from segjax.errors import InputError
from segjax.experiment import environment
from segjax.experiment.build import make_classical, open_split, open_workdir
from segjax.experiment.workdir import read_config, read_description, write_json
from segjax.report.html import Example, write_report
from segjax.report.table import comparison
from segjax.train.checkpoint import Checkpoints
from segjax.train.evaluate import Evaluation, Method, evaluate
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
    config, description = read_config(workdir), read_description(workdir)
    source = open_split(config, split)
    if tuple(source.class_names) != description.class_names:
        raise InputError(
            f"{workdir} was trained for the classes {', '.join(description.class_names)}, but"
            f" {config.dataset.name} now has {', '.join(source.class_names)}: train anew in another --workdir"
        )
    predictor, step = open_workdir(workdir, config, description)
    if seconds is None:
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            seconds = checkpoints.progress(step)["seconds"]
    methods: dict[str, Method] = {
        "model": predictor,
        "reference": make_classical(config.reference, "reference"),
    }
    folder = workdir / ("report" if split == "test" else f"report_{split}")
    curve = _training_curve(workdir)
    return _compare(methods, config, source, split, folder, train_seconds=seconds, step=step, curve=curve)


def evaluate_classical(config: ConfigDict, split: str, folder: Path) -> str:
    """Evaluates a method without weights beside the reference; see `evaluate_workdir`."""
    source = open_split(config, split)
    methods = {config.method.name: make_classical(config.method, "method")}
    if config.method != config.reference:
        methods["reference"] = make_classical(config.reference, "reference")
    return _compare(methods, config, source, split, folder, train_seconds=None, step=None, curve=[])


def _compare(
    methods: dict[str, Method],
    config: ConfigDict,
    source: Source,
    split: str,
    folder: Path,
    *,
    train_seconds: float | None,
    step: int | None,
    curve: list[dict[str, Any]],
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
        "per_image": {name: evaluation.per_image for name, evaluation in found.items()},
        "environment": environment.describe(),
    }
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
        environment=metrics["environment"] | {"config": config.to_dict()},
    )
    return f"{comparison(metrics)}\n\nreport: {folder / 'index.html'}"


def _training_curve(workdir: Path) -> list[dict[str, float]]:
    """The losses of a run by step, without the prefixes of the log."""
    prefix = "train/"
    terms = ("skipped", "skipped_in_row")
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
