"""Fits the settings that turn the outputs of a network into instances, on the validation split.

The network runs once on each image; each of several processes takes a part of the images. Then one setting
after the other takes its best value, twice around, by the mean AP over the IoU thresholds from 0.5 to 0.9.
The result is stored in the folder of the run.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from absl import logging
from tqdm import tqdm

from segjax.data.records import Source
from segjax.errors import InputError
from segjax.files import read_json_object, write_json
from segjax.inference.dense import DensePredictor
from segjax.inference.outlines import OUTLINES
from segjax.inference.predictor import Predictor
from segjax.metrics.instance import InstanceStatistics
from segjax.segmentation import Segmentation
from segjax.segmentation.resize import resize_segmentation
from segjax.tasks.base import Task
from segjax.tasks.detection import DetectionTask
from segjax.train.processes import spread
from segjax.train.state import fingerprint
from segjax.typing import Outputs, Params

T = TypeVar("T")
FILE = "decoder.json"
ROUNDS = 2
# With fewer validation images, the fit may choose settings that are worse on others: fitted on the three of
# MNFinder, the network of the quickstart loses 0.08 of its AP on the test images.
MIN_IMAGES = 10
# The score counts the thresholds up to this IoU.
HIGHEST_IOU = 0.9
AREA_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
DETECTION_GRID: Mapping[str, Sequence[Any]] = {
    "detect.score_threshold": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    "outline": tuple(OUTLINES),
    "mask_threshold": (0.3, 0.4, 0.5, 0.6),
    "max_overlap": (0.2, 0.35, 0.5, 0.8),
    "min_area": (5, 10, 20, 40),
}


class DecoderFit(NamedTuple):
    """Fitted settings.

    Attributes:
      step: step of the parameters that they were fitted for.
      settings: value of each setting, by its path below `config.task`.
      score: mean AP over the thresholds and the classes, with these settings.
      before: the same with the settings of the config.
      tried: every combination that was tried, with its score.
      predict: how the outputs were predicted, the section of the config; None if that is not known.
      params: digest of the parameters, see `fingerprint`; None if it is not known.
    """

    step: int
    settings: dict[str, Any]
    score: float
    before: float
    tried: list[dict[str, Any]]
    predict: dict[str, Any] | None = None
    params: str | None = None


def fit_decoder(predictor: Predictor, source: Source, *, step: int, fixed: Sequence[str] = ()) -> DecoderFit:
    """Searches the settings of the decoder of a network; all processes call it, and have the same result.

    Args:
      predictor: the network.
      source: the validation split.
      step: step of the parameters.
      fixed: settings that keep their value, by their path below `config.task`.

    Raises:
      InputError: if `fixed` names no setting of the decoder.
    """
    if len(source) < MIN_IMAGES:
        logging.warning(
            "the validation split has only %d images, fewer than %d: the fitted settings of the decoder may"
            " be worse on other images",
            len(source),
            MIN_IMAGES,
        )
    task: Any = predictor.task
    values_by_name = free_settings(task, fixed)
    images = _predict(predictor, source, values_by_name)
    num_classes = len(source.class_names)
    tried: list[dict[str, Any]] = []
    scores: dict[str, float] = {}

    def score(settings: Mapping[str, Any]) -> float:
        key = json.dumps(settings, sort_keys=True)
        if key not in scores:
            candidate = with_settings(task, settings)
            scores[key] = _score(candidate, images, len(source), num_classes)
            tried.append({**settings, "score": round(scores[key], 5)})
        return scores[key]

    settings = {name: _get(task.config, name) for name in values_by_name}
    before = best = score(settings)
    total = ROUNDS * sum(len(values) for values in values_by_name.values())
    with tqdm(total=total, desc="fit decoder", unit="setting", dynamic_ncols=True, leave=False) as bar:
        for _ in range(ROUNDS):
            for name, values in values_by_name.items():
                for value in values:
                    candidate = {**settings, name: value}
                    if (new := score(candidate)) > best:
                        best, settings = new, candidate
                    bar.update()
    return DecoderFit(step, settings, best, before, tried)


def save(fit: DecoderFit, workdir: Path) -> None:
    """Writes the result into the folder of a run."""
    write_json(workdir / FILE, fit._asdict())


def load(workdir: Path) -> DecoderFit | None:
    """Reads the result from the folder of a run; None if there is none.

    Raises:
      InputError: if the file is damaged.
    """
    path = workdir / FILE
    try:
        fit = DecoderFit(**read_json_object(path)) if path.exists() else None
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error
    if fit is not None and not (isinstance(fit.step, int) and isinstance(fit.settings, dict)):
        raise _damaged(path, "step is not an integer, or settings is not an object")
    return fit


def fitted_task(task: T, workdir: Path, step: int, params: Params) -> T:
    """Returns the task with the settings that were fitted for the parameters of a step, if there are any.

    Raises:
      InputError: if the file is damaged.
    """
    settings = fitted_settings(workdir, step, params)
    try:
        return with_settings(task, settings) if settings else task
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise _damaged(workdir / FILE, error) from error


def fitted_settings(workdir: Path, step: int, params: Params) -> dict[str, Any]:
    """Returns the settings that were fitted for the parameters of a step, by their path below `config.task`.

    Raises:
      InputError: if the file is damaged.
    """
    fit = load(workdir)
    if fit is None:
        return {}
    if fit.step != step:
        logging.warning(
            "%s was fitted for step %s, not for step %d: run segjax evaluate --fit",
            workdir / FILE,
            fit.step,
            step,
        )
        return {}
    # The step may have been trained again, with another config.
    if fit.params is not None and fit.params != fingerprint(params):
        logging.warning(
            "%s was fitted for other parameters of step %d: run segjax evaluate --fit", workdir / FILE, step
        )
        return {}
    return fit.settings


def _damaged(path: Path, reason: object) -> InputError:
    return InputError(f"{path} is damaged ({reason}): delete it; segjax evaluate --fit makes it")


def with_settings(task: T, settings: Mapping[str, Any]) -> T:
    """Returns a task with other settings, given by their path, such as `decoder.h`."""
    config = task.config  # type: ignore[attr-defined]
    for name, value in settings.items():
        config = _replace(config, name.split("."), tuple(value) if isinstance(value, list) else value)
    return dataclasses.replace(task, config=config)  # type: ignore[type-var]


def _replace(config: Any, path: Sequence[str], value: Any) -> Any:
    first, *rest = path
    return dataclasses.replace(
        config, **{first: _replace(getattr(config, first), rest, value) if rest else value}
    )


def _get(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name)
    return config


def grid(task: Any) -> Mapping[str, Sequence[Any]]:
    """Returns the values of each setting of the decoder of a task, by its path below `config.task`."""
    if isinstance(task, DetectionTask):
        unused = "mask_threshold" if task.model.mask_head is None else "outline"
        return {name: values for name, values in DETECTION_GRID.items() if name != unused}
    areas = [tuple(max(1, round(factor * area)) for area in task.config.min_area) for factor in AREA_FACTORS]
    return {
        "foreground_threshold": (None, 0.3, 0.4, 0.5, 0.6, 0.7),
        **{f"decoder.{name}": values for name, values in task.config.representation.grid.items()},
        "min_area": areas,
        "min_fraction": (0.0, 0.05, 0.1, 0.15, 0.2),
    }


def decoder_settings(task: Any) -> dict[str, Any]:
    """Returns the settings of the decoder of a task, by their path below `config.task`."""
    return {name: _get(task.config, name) for name in grid(task)}


def free_settings(task: Any, fixed: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Returns the `grid` of a task without the settings that keep their value.

    Raises:
      InputError: if `fixed` names no setting of the decoder.
    """
    values_by_name = dict(grid(task))
    for name in fixed:
        if name not in values_by_name:
            raise InputError(f"fixed names {name}: choose among {', '.join(values_by_name)}", field="fixed")
        del values_by_name[name]
    return values_by_name


def _predict(
    predictor: Any, source: Source, values_by_name: Mapping[str, Sequence[Any]]
) -> dict[int, tuple[Outputs, Segmentation]]:
    """Returns the outputs of the network for the images of this process by their index, with their truth."""
    lowest = values_by_name.get("detect.score_threshold")
    if lowest is not None:
        own = predictor.task.config.detect.score_threshold
        task = with_settings(predictor.task, {"detect.score_threshold": min((*lowest, own))})
        outlines = tuple(values_by_name.get("outline", ()))
        predictor = dataclasses.replace(predictor, task=task, outlines=outlines)
    images: dict[int, tuple[Outputs, Segmentation]] = {}

    def predict(index: int) -> None:
        record = source[index]
        if isinstance(predictor, DensePredictor):
            maps = predictor.predict_maps(record.image)
            outputs: Outputs = {name: values.astype(np.float16) for name, values in maps.items()}
        else:
            outputs = predictor.detect(record.image)
        images[index] = outputs, record.truth

    spread(predict, len(source), "the prediction of the validation images")
    return images


def _score(
    task: Task, images: Mapping[int, tuple[Outputs, Segmentation]], count: int, num_classes: int
) -> float:
    """Returns the mean AP over thresholds and classes, pooled over the `count` images of all processes."""

    def count_one(image: tuple[Outputs, Segmentation]) -> list[InstanceStatistics]:
        outputs, truth = image
        prediction = resize_segmentation(task.segment(outputs), truth.shape)
        return [
            InstanceStatistics.of(truth.of_class(index), prediction.of_class(index))
            for index in range(1, num_classes)
        ]

    totals = [InstanceStatistics.empty()] * (num_classes - 1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {index: pool.submit(count_one, image) for index, image in images.items()}
        purpose = "the fit of the decoder"
        for counts in spread(lambda index: futures[index].result(), count, purpose, bar=False):
            totals = [total + new for total, new in zip(totals, counts, strict=True)]
    scores = [value.compute().ap for value in totals if value.num_true]
    thresholds = [threshold for threshold in scores[0] if threshold <= HIGHEST_IOU + 1e-6] if scores else []
    return float(np.mean([[ap[threshold] for threshold in thresholds] for ap in scores])) if scores else 0.0
