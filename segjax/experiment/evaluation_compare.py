"""Evaluates predictions of any program, and compares them with runs on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from segjax.data.records import Source
from segjax.errors import InputError
from segjax.evaluation.evaluate import Predict
from segjax.experiment.evaluation import evaluate_all, of_record, write_results
from segjax.experiment.evaluation_classes import OneClassSource, common_classes, in_one_class
from segjax.experiment.evaluation_folders import PredictionFolder, TruthFolder
from segjax.experiment.leaks import have_other_images, split_facts, stored_digests, warn_of_other_images
from segjax.experiment.methods import OpenedMethod, open_method
from segjax.experiment.remembering import FOLDER, Memory
from segjax.experiment.results_folder import open_results, writing
from segjax.experiment.setup import open_split, read_run
from segjax.files import write_json
from segjax.models.weights.network import find
from segjax.report.evaluation_page import EvaluationReport
from segjax.report.table import summary
from segjax.train.processes import all_or_none

# The digest of the training files.
TRAINING = "train_files_sha256"


@dataclasses.dataclass(frozen=True)
class Files:
    """The files that `segjax evaluate` scores; each field is one of its flags.

    Attributes:
      truth: folder or file of the truth; None for the split of the first run.
      prediction: folders or files of predictions.
      truth_format: one of `FORMATS`, or "auto".
      prediction_format: the same for all predictions.
      images: folder of the images of the truth.
      metadata: table with the groups of the images.
    """

    truth: str | None = None
    prediction: tuple[str, ...] = ()
    truth_format: str = "auto"
    prediction_format: str = "auto"
    images: str | None = None
    metadata: str | None = None


def compare(paths: Sequence[str], files: Files, split: str, memory: Memory) -> EvaluationReport:
    """Evaluates runs and predictions on the same images; the first one is the baseline.

    Args:
      paths: folders of runs, names or files of networks or methods, and folders or files of predictions.
      files: the truth, and further predictions.
      split: "train", "validation" or "test", of the data set of the first run.
      memory: remembers the predictions of methods; predictions in files are read again.

    Raises:
      InputError: if a run has another data set, split or classes, or files cannot be used.
    """
    names = _short_names([*paths, *files.prediction])
    with all_or_none("the methods to compare"):
        runs = [path for path in names.values() if (Path(path) / "checkpoints").is_dir()]
        source, fields = _open_source(files, runs, split)
        stored = {
            name: PredictionFolder(path, source, format=files.prediction_format)
            for name, path in names.items()
            if path in files.prediction or (Path(path).exists() and path not in runs and find(path) is None)
        }
        if files.truth is not None and files.images is None and len(stored) < len(names):
            method = next(name for name in names if name not in stored)
            raise InputError(f"{method} segments images: give --images=FOLDER beside --truth")
        opened = {
            name: memory.opened(open_method(path)) for name, path in names.items() if name not in stored
        }
        classless = any(one.class_names is None for one in opened.values())
        classes = common_classes(source.class_names, list(stored.values()), has_classless=classless)
        methods = {
            name: stored[name].predict if name in stored else _predict_in(opened[name], path, classes)
            for name, path in names.items()
        }
    merged = OneClassSource(source, classes) if len(classes) < len(source.class_names) else source
    if merged is not source:
        fields["headline"] = None
    report = evaluate_all(methods, merged, memory, **fields)
    notes = ["A prediction has no classes: all instances are of one class."] if merged is not source else []
    for one in (source, *stored.values()):
        notes += one.notes.sentences() if isinstance(one, TruthFolder | PredictionFolder) else []
    facts = source.facts if isinstance(source, TruthFolder) else report.split_facts
    return dataclasses.replace(report, warnings=[*report.warnings, *notes], split_facts=facts)


def _open_source(files: Files, runs: Sequence[str], split: str) -> tuple[Source, dict[str, Any]]:
    """Opens the truth, or the data set of the first run; returns it and fields of the report."""
    if files.truth is None and not runs:
        raise InputError("give --truth=FOLDER, or the folder of a run, whose data set has the truth")
    if files.truth is None:
        return _open_data(runs, split)
    folder = TruthFolder(files.truth, format=files.truth_format, images=files.images, metadata=files.metadata)
    config = {name: value for name, value in vars(files).items() if value}
    return folder, {"data_set": Path(files.truth).name, "split": "", "config": config}


def _open_data(runs: Sequence[str], split: str) -> tuple[Source, dict[str, Any]]:
    """Opens the data set of the first run; the others must have the same one."""
    configs: list[tuple[str, ConfigDict, Sequence[str]]] = []
    for run in runs:
        config, metadata = read_run(Path(run))
        configs.append((run, config, metadata.class_names))
    first, config, class_names = configs[0]
    source, stored = open_split(config, split), stored_digests(Path(first))
    warnings, same_data = [*getattr(source, "leaks", ())], [(first, config)]
    for run, other, names in configs[1:]:
        same = (other.dataset.name, other.dataset.get(split), tuple(names))
        if same != (config.dataset.name, config.dataset.get(split), tuple(class_names)):
            raise InputError(
                f"{run} was trained on {other.dataset.name} with the classes {', '.join(names)}, and {first}"
                f" on {config.dataset.name} with {', '.join(class_names)}: their scores cannot be compared;"
                " give runs with the same data set, split and classes"
            )
        theirs = stored_digests(Path(run))
        if other.dataset.train != config.dataset.train:
            # Both may be parts of the same data.
            theirs.pop(TRAINING, None)
        if have_other_images(stored, theirs):
            warnings.append(
                f"{run} was trained on other images than {first}. Both are scored on images of the data of"
                f" {first}; {run} may have been trained on some of them, and its scores are then too high."
            )
            logging.warning(warnings[-1])
            continue
        same_data.append((run, other))
        if TRAINING in stored and stored[TRAINING] != theirs.get(TRAINING, stored[TRAINING]):
            warnings.append(
                f"{run} was trained on other images or annotations of the same names than {first}."
            )
    for run, other in same_data:
        # The images are those of the first run, wherever those of the others are.
        other.dataset.data_dir = config.dataset.data_dir
        warnings += warn_of_other_images(Path(run), other)
    return source, {
        "data_set": config.dataset.name,
        "split": split,
        "headline": config.dataset.headline,
        "config": {"runs": list(runs)},
        "split_facts": split_facts(source),
        "warnings": warnings,
    }


def _predict_in(opened: OpenedMethod, path: str, classes: Sequence[str]) -> Predict:
    """Returns the predictions of a run, a network or a method; with one class, all instances are of it."""
    if len(classes) == 2:
        return lambda record: in_one_class(opened(record.image))
    if opened.class_names is not None and tuple(opened.class_names) != tuple(classes):
        raise InputError(
            f"{path} predicts the classes {', '.join(opened.class_names)}, but the truth has"
            f" {', '.join(classes)}: give a method with the classes of the truth"
        )
    return of_record(opened.__call__)


def _short_names(paths: Sequence[str]) -> dict[str, str]:
    """Returns the paths by their names: the last part, or the full path if the last part is not unique.

    Raises:
      InputError: if a path occurs twice.

    >>> _short_names(["runs/a", "runs/b/report", "other/report"])
    {'a': 'runs/a', 'runs/b/report': 'runs/b/report', 'other/report': 'other/report'}
    """
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InputError(f"{twice} occurs twice: give different runs or predictions")
    last = [Path(path).name for path in paths]
    return {name if last.count(name) == 1 else path: path for name, path in zip(last, paths, strict=True)}


def compare_and_write(
    paths: Sequence[str], files: Files, split: str, *, out: Path | None, json: Path | None
) -> str:
    """Compares, and writes the results.

    Args:
      paths: see `compare`.
      files: see `compare`.
      split: see `compare`.
      out: folder of the report; None for no report.
      json: file of the scores, the same as `metrics.json` in the report; None for none.

    Returns:
      The comparison as a table to print.
    """
    with all_or_none("the results"):
        if jax.process_index() == 0:
            for folder in [*filter(None, [out])] + ([] if json is None else [json.parent]):
                open_results(folder)
    # Several files of scores may be in one folder.
    name = FOLDER if json is None else f"{FOLDER}_{json.name}"
    memory = Memory(out or Path(json or "").parent, name)
    report = compare(paths, files, split, memory)
    if json is not None:
        with all_or_none("the scores"), writing(json):
            if jax.process_index() == 0:
                write_json(json, report.as_dict())
    if out is not None:
        return write_results(out, report, memory)
    memory.forget()
    return f"{summary(report.scores, report.uncertainty)}\n\nscores: {json}"
