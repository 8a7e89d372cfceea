"""Evaluates methods and the reference on a split, and writes the report.

Each of several processes segments a part of the images; all have the same scores, and the first one writes
the report. After an evaluation was killed, the same command continues, see `Memory`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from segjax.classical import METHODS, make_method
from segjax.classical.stages import Stages
from segjax.data.mixture import MixedSource, annotated_classes, select_classes
from segjax.data.records import Source
from segjax.errors import InputError
from segjax.evaluation.evaluate import Predict, evaluate_records
from segjax.experiment import environment
from segjax.experiment.classification import make_classifying
from segjax.experiment.evaluation_classes import class_by_size, within_classes
from segjax.experiment.evaluation_extras import evaluate_detector, fit_count_interval
from segjax.experiment.leaks import split_facts, warn_of_other_images
from segjax.experiment.methods import make_reference, open_method, open_run, small_tile
from segjax.experiment.remembering import Memory
from segjax.experiment.results_folder import open_results, writing
from segjax.experiment.sections import check_classical_settings
from segjax.experiment.setup import open_split, read_run
from segjax.experiment.training import fit_run
from segjax.inference.predictor import Detector
from segjax.metrics.details import DetailOptions
from segjax.report.evaluation_page import EvaluationReport, write_report
from segjax.report.stages import busiest, draw_stages
from segjax.report.table import format_score, summary
from segjax.segmentation import Method
from segjax.settings import broken_rule
from segjax.train.checkpoint_files import CheckpointReader
from segjax.train.log import read_log
from segjax.train.processes import LONG_LIMIT, all_or_none, check_equal, spread


def evaluate_workdir(
    workdir: Path,
    split: str,
    *,
    seconds: float | None = None,
    fit: bool = False,
    folder: Path | None = None,
) -> str:
    """Evaluates a trained network and the reference, and writes the report.

    Args:
      workdir: folder of a run with a checkpoint. Without `fit` and with `folder`, nothing is written there.
      split: "train", "validation" or "test".
      fit: whether to fit the decoder on the validation split first.
      seconds: duration of the training, for the report; from the run's last checkpoint if None.
      folder: output folder for the report; if None, `<workdir>/report`, for splits other than test
        `<workdir>/report_<split>`.

    Returns:
      The comparison as a table to print.
    """
    folder = folder or workdir / ("report" if split == "test" else f"report_{split}")
    with all_or_none("the run to evaluate"):
        config, metadata = read_run(workdir)
        _open_results(folder)
        source, validation = open_split(config, split), open_split(config, "validation") if fit else None
        if tuple(source.class_names) != metadata.class_names:
            raise InputError(
                f"{workdir} was trained for the classes {', '.join(metadata.class_names)}, but"
                f" {config.dataset.name} now has {', '.join(source.class_names)}: train in another --workdir"
            )
        warnings = [*warn_of_other_images(workdir, config), *filter(None, [small_tile(config)])]
    if validation is not None:
        fit_run(config, workdir, validation, again=True)
    with all_or_none("the network to evaluate"):
        opened = open_run(workdir)
    check_equal(opened.digest, "network")
    memory = Memory(folder)
    proposals: dict[str, float | None] | None = None
    boxes: dict[str, Any] = {}
    if isinstance(opened.method, Detector):
        proposals, boxes = evaluate_detector(opened, source, memory)
    opened = memory.opened(opened)
    if seconds is None:
        seconds = CheckpointReader(workdir / "checkpoints").last_progress().get("seconds")
    report = _evaluate_with_reference({"model": opened.__call__}, config, source, split, memory)
    report = dataclasses.replace(
        report,
        warnings=[*report.warnings, *warnings],
        train_seconds=seconds,
        step=opened.step,
        curve=_training_curve(workdir),
        proposals=proposals,
        boxes=boxes,
        count_interval=fit_count_interval(opened, config, split),
    )
    table = write_results(folder, report, memory)
    if proposals is None:
        return table
    recall = "-" if proposals["recall"] is None else format_score(proposals["recall"])
    return (
        f"{table}\nproposals: {proposals['mean_count'] or 0:.0f} per image, recall {recall} at an IoU of 0.5"
    )


def evaluate_model(model: str, config: ConfigDict, split: str, folder: Path) -> str:
    """Evaluates a network on any data set, also on one that it was not trained on.

    Instances of classes that the network does not know become background.

    Args:
      model: the name or the file of a network, or the folder of a run, see `open_method`.
      config: its data set and its reference are used.
      split: "train", "validation" or "test".
      folder: output folder for the report and `metrics.json`.

    Returns:
      The comparison as a table to print.

    Raises:
      InputError: if the data set has none of the classes of the network, or the report cannot be written.
    """
    with all_or_none("the network to evaluate"):
        opened = open_method(model)
        _open_results(folder)
        source = open_split(config, split)
    check_equal(opened.digest, "network")
    memory = Memory(folder)
    if opened.class_names is not None and tuple(opened.class_names) != tuple(source.class_names):
        source = MixedSource([source], opened.class_names)
        config = ConfigDict(config)
        config.dataset.headline = None
    methods: dict[str, Method] = {model: memory.opened(opened).__call__}
    report = _evaluate_with_reference(methods, config, source, split, memory)
    return write_results(folder, dataclasses.replace(report, step=opened.step), memory)


def evaluate_classical(config: ConfigDict, split: str, folder: Path) -> str:
    """Evaluates methods without weights and the reference.

    Where the data have several classes of instances, a classifier gives each instance its class. It is fitted
    to the segmentations of the training split, and written to `<folder>/classifier_<method>.json`.

    Args:
      config: a config from configs/classical.py.
      split: "train", "validation" or "test".
      folder: output folder for the report, `metrics.json` and the classifiers.

    Returns:
      The comparison as a table to print.
    """
    with all_or_none("the methods to evaluate"):
        check_classical_settings(config)
        _open_results(folder)
        source = open_split(config, split)
    names = sorted(config.methods, key=[*METHODS, *config.methods].index)  # a ConfigDict forgets their order
    memory = Memory(folder)
    methods = {
        name: make_classifying(name, config, source.class_names, folder, memory=memory) for name in names
    }
    report = _evaluate_with_reference(methods, config, source, split, memory)
    stages = {name: make_method(name, **config.methods[name]).stages for name in names}
    return write_results(folder, dataclasses.replace(report, stages=_draw_stages(report, stages)), memory)


def _open_results(folder: Path) -> None:
    """Opens a folder of results in the first process, which alone writes."""
    if jax.process_index() == 0:
        open_results(folder)


def _with_classes(method: Method, old: Sequence[str], new: Sequence[str]) -> Method:
    """Returns a method with the classes `new` in place of `old`; other instances become background."""
    return lambda image: select_classes(method(image), old, new)


def evaluate_all(
    methods: Mapping[str, Predict],
    source: Source,
    memory: Memory,
    *,
    headline: str | None = None,
    **fields: Any,
) -> EvaluationReport:
    """Evaluates methods on the same images.

    Args:
      methods: returns the prediction of a record, by the name of the method; the most important one first.
      source: the images.
      memory: remembers the predictions of some of the methods.
      headline: the class that the scores without a class refer to; the first foreground class if None.
      **fields: further fields of the report.
    """
    evaluations = {}
    for name, predict in methods.items():
        before = memory.seconds
        evaluation = evaluate_records(
            predict,
            source,
            headline=headline,
            details=DetailOptions(),
            spread=functools.partial(spread, purpose=f"the evaluation of {name}"),
        )
        seconds = evaluation.seconds + memory.seconds - before
        evaluations[name] = evaluation._replace(seconds=seconds)
    return EvaluationReport(
        source=source,
        evaluations=evaluations,
        environment={**environment.hardware_info(), **environment.commit()},
        **fields,
    )


def of_record(method: Method) -> Predict:
    """Returns a function that segments the image of a record."""
    return lambda record: method(record.image)


def _evaluate_with_reference(
    methods: Mapping[str, Method],
    config: ConfigDict,
    source: Source,
    split: str,
    memory: Memory,
) -> EvaluationReport:
    """Evaluates methods and the reference, which knows all classes of the data, not only selected ones.

    Its small instances are of class 1 if the data have no class for them.
    """
    annotated = annotated_classes(source)
    reference = within_classes(memory.opened(make_reference(config)).__call__, len(annotated))
    if annotated != tuple(source.class_names):
        reference = _with_classes(reference, annotated, source.class_names)
    return evaluate_all(
        {name: of_record(method) for name, method in {**methods, "reference": reference}.items()},
        source,
        memory,
        headline=config.dataset.headline,
        baseline="reference",
        data_set=config.dataset.name,
        split=split,
        config=config.to_dict(),
        split_facts=split_facts(source),
        warnings=[*getattr(source, "leaks", ()), *class_by_size(config.reference, annotated)],
    )


def write_results(folder: Path, report: EvaluationReport, memory: Memory) -> str:
    """Writes the report in the first process, then forgets the predictions; returns the table to print."""
    with all_or_none("the report", limit=LONG_LIMIT), writing(folder):
        if jax.process_index() == 0:
            write_report(folder, report)
    memory.forget()
    return f"{summary(report.scores, report.uncertainty)}\n\nreport: {folder / 'index.html'}"


def _draw_stages(
    report: EvaluationReport, methods: Mapping[str, Callable[[np.ndarray], Stages]]
) -> tuple[str, dict[str, list[tuple[str, np.ndarray]]]]:
    """Returns the name of a typical image, and pictures of each method's intermediate stages on it."""
    scores = [one.ap[0.5] for one in next(iter(report.evaluations.values())).per_image.values()]
    median = np.argsort(np.nan_to_num(scores), kind="stable")[len(scores) // 2]
    typical = report.source[int(median)]
    window = busiest(typical.truth.labels > 0)
    pictures = {
        name: draw_stages(typical.image, method(typical.image), window=window)
        for name, method in methods.items()
    }
    return typical.name, pictures


def _training_curve(workdir: Path) -> list[dict[str, float]]:
    """Returns step and losses of every logged step, without the prefixes of the log."""
    prefix, counters = "train/", ("train/skipped", "train/consecutive_skips")
    return [
        {"step": line["step"]}
        | {
            name.removeprefix(prefix): value
            for name, value in line.items()
            if name.startswith(prefix) and name not in counters and broken_rule(value, float) is None
        }
        for line in read_log(workdir / "log.jsonl")
        if f"{prefix}loss" in line
    ]
