"""Scores that a sweep adds to those of every method: of the worst perturbation, and of perfect maps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from segjax.data.records import Record, Source
from segjax.evaluation.evaluate import Predict, evaluate_records
from segjax.evaluation.perturbations import PERTURBATIONS, PerturbedSource
from segjax.evaluation.uncertainty import image_ratios
from segjax.experiment.methods import OpenedMethod
from segjax.inference.dense import DensePredictor
from segjax.segmentation import Segmentation
from segjax.segmentation.resize import resize_segmentation
from segjax.tasks.semantic import SemanticTask
from segjax.train.processes import spread

WORST, CEILING = "worst F1", "AP 0.5 of perfect maps"
# Numerator and denominator of a score, by the name of the image.
Ratios = dict[str, tuple[float, float]]


class Worst(NamedTuple):
    """The perturbation with the lowest F1.

    Attributes:
      name: its name, one of `PERTURBATIONS`.
      ratios: the ratios of the F1 of the perturbed images.
    """

    name: str
    ratios: Ratios


def worst_perturbation(
    opened: OpenedMethod, source: Source, headline: str | None, names: Sequence[str] = PERTURBATIONS[1:]
) -> Worst:
    """Segments the images under each perturbation, and finds the one with the lowest F1 of all images.

    Args:
      opened: segments the images.
      source: the images.
      headline: the class that F1 refers to; the first foreground class if None.
      names: the perturbations, see `segjax.evaluation.perturbations`; by default all that change images.
    """
    results = [
        Worst(
            name, _ratios(lambda record: opened(record.image), PerturbedSource(source, name), headline, "F1")
        )
        for name in tqdm(names, desc="perturbations", unit="perturbation", leave=False)
    ]
    return min(results, key=lambda result: _pooled(result.ratios))


def ceiling(opened: OpenedMethod, source: Source, headline: str | None) -> Ratios | None:
    """Decodes the maps that a perfect network would predict at the resolution of its input.

    Args:
      opened: a method.
      source: the images; only their annotations are used.
      headline: the class that AP refers to; the first foreground class if None.

    Returns:
      The ratios of AP at 0.5, which the decoder limits; None if the method is no segmenter.
    """
    predictor = opened.method
    if not isinstance(predictor, DensePredictor) or not isinstance(predictor.task, SemanticTask):
        return None
    task = predictor.task

    def decode(record: Record) -> Segmentation:
        truth = resize_segmentation(record.truth, predictor.input_shape(record.image, record.truth))
        return resize_segmentation(task.segment(perfect_maps(task, truth)), record.truth.shape)

    return _ratios(decode, source, headline, "AP 0.5")


def perfect_maps(task: SemanticTask, truth: Segmentation) -> dict[str, np.ndarray]:
    """Returns the maps of a perfect network, as `SemanticTask.predict` does for a batch."""
    semantic = np.clip(truth.semantic, 0, task.num_classes - 1)
    maps = {"classes": np.eye(task.num_classes, dtype=np.float32)[semantic]}
    if task.config.representation.channels:
        maps[task.config.instances] = task.config.representation.encode(truth.labels)
    return maps


def _ratios(predict: Predict, source: Source, headline: str | None, score: str) -> Ratios:
    evaluation = evaluate_records(
        predict, source, headline=headline, spread=functools.partial(spread, purpose="evaluate")
    )
    return {name: image_ratios(scores.statistics)[score] for name, scores in evaluation.per_image.items()}


def _pooled(ratios: Ratios) -> float:
    numerator, denominator = np.sum([*ratios.values()], axis=0)
    return float(numerator / denominator) if denominator else 1.0
