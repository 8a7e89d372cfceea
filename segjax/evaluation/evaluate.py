"""Scores segmentations against their truth: of one image, or of a split."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from segjax.evaluation.label_images import checked_pair
from segjax.metrics.details import DetailOptions
from segjax.metrics.options import InstanceOptions
from segjax.metrics.scores import Scores, Statistics
from segjax.segmentation import Method, Segmentation

if TYPE_CHECKING:  # the import takes seconds, too long for the scores of one image
    from segjax.data.records import Record, Source

# Returns the prediction of a record.
Predict = Callable[["Record"], Segmentation]
# `(function, count) -> [function(0), ..., function(count - 1)]`.
Spread = Callable[[Callable[[int], Any], int], list[Any]]


class Evaluation(NamedTuple):
    """Results of a method on a split.

    Attributes:
      scores: scores of all images, pooled.
      per_image: scores of each image, by its name, in the order of the images; see `unique_names`.
      predict: predicts a record again. Predictions are not kept: those of large splits need gigabytes.
      seconds: duration of the evaluation.
    """

    scores: Scores
    per_image: dict[str, Scores]
    predict: Predict
    seconds: float


def evaluate_labels(
    truth: Segmentation | np.ndarray,
    prediction: Segmentation | np.ndarray,
    *,
    class_names: Sequence[str] | None = None,
    options: InstanceOptions = InstanceOptions(),
    details: DetailOptions | None = DetailOptions(),
) -> Scores:
    """Scores the segmentation of one image against its truth.

    Args:
      truth: a `Segmentation`, or a label image [H, W] integer, 0 for background and one id per instance.
      prediction: the same for the prediction. Ids need not agree.
      class_names: names of the classes, background first; "class 1", "class 2", ... if None.
      options: options of the scores of instances: strict or not, empty images, averages.
      details: options of the scores of boundaries, of COCO and of kinds of errors; None leaves them out,
        which is faster.

    Returns:
      The scores, which add up to those of several images. Those of instances refer to the first foreground
      class; `per_class` has the others.

    Raises:
      InputError: if shapes differ, or one is not a label image.
      ValueError: if a class has no name.

    >>> truth, prediction = np.zeros((2, 8, 8), int)
    >>> truth[1:4, 1:5], truth[5:8, 2:8] = 1, 2
    >>> prediction[1:4, 1:4] = 7
    >>> scores = evaluate_labels(truth, prediction)
    >>> scores.ap[0.5], scores.ap[0.8], scores.pq, scores.aji, scores.iou["class 1"]
    (0.5, 0.0, 0.5, 0.3, 0.3)
    """
    truth, prediction = checked_pair(truth, prediction)
    if class_names is None:
        maps = (truth.classes, truth.semantic, prediction.classes, prediction.semantic)
        highest = max(1, *(int(classes.max(initial=0)) for classes in maps))
        class_names = ("background", *(f"class {index}" for index in range(1, highest + 1)))
    return Statistics.of(truth, prediction, class_names, details=details).compute(options)


def in_order(function: Callable[[int], Any], count: int) -> list[Any]:
    """Returns the results of a function for 0 to `count` - 1, computed one after the other."""
    return [function(index) for index in range(count)]


def unique_names(names: Sequence[str]) -> list[str]:
    """Numbers the names that repeat, as those of images of several data sets may.

    >>> unique_names(["a", "b", "a", "a (2)", "a"])
    ['a', 'b', 'a (3)', 'a (2)', 'a (4)']
    """
    known, unique = set(names), dict[str, None]()  # a dictionary has an order
    for name in names:
        chosen, number = name, 2
        while chosen in unique or (chosen != name and chosen in known):
            chosen, number = f"{name} ({number})", number + 1
        unique[chosen] = None
    return [*unique]


def evaluate(method: Method, source: Source, **options: Any) -> Evaluation:
    """Runs a method on every record and scores it against the truth.

    Args:
      method: `image [H, W, C] -> Segmentation`.
      source: the images with their truth, and the names of the classes.
      **options: those of `evaluate_records`.
    """
    return evaluate_records(lambda record: method(record.image), source, **options)


def evaluate_records(
    predict: Predict,
    source: Source,
    *,
    headline: str | None = None,
    details: DetailOptions | None = None,
    spread: Spread = in_order,
) -> Evaluation:
    """Scores the prediction of every record against the truth.

    Args:
      predict: returns the prediction of a record.
      source: the images with their truth, and the names of the classes.
      headline: the class that the top-level instance scores refer to; the first foreground class if None.
      details: see `evaluate_labels`.
      spread: computes the results of the images, such as by several processes.

    Returns:
      The evaluation. It is the same for every `spread`, as the images are pooled in their order.
    """
    start = time.monotonic()

    def evaluate_one(index: int) -> tuple[str, Statistics]:
        record = source[index]
        prediction = predict(record)
        statistics = Statistics.of(
            record.truth,
            prediction,
            source.class_names,
            headline=headline,
            name=record.name,
            group=record.group,
            details=details,
        )
        return record.name, statistics

    results = spread(evaluate_one, len(source))
    total = Statistics.empty(source.class_names, headline=headline)
    images = [image for _, statistics in results for image in statistics.images]
    total = dataclasses.replace(total, images=tuple(images))
    names = unique_names([name for name, _ in results])
    return Evaluation(
        total.compute(),
        {name: statistics.compute() for name, (_, statistics) in zip(names, results, strict=True)},
        predict,
        time.monotonic() - start,
    )
