"""Scores segmentations against their truth: of one image, or of a split."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from segjax.metrics.scores import Scores, Statistics
from segjax.segmentation import Method, Segmentation

if TYPE_CHECKING:  # the import takes seconds, which one image is not worth
    from segjax.data.records import Source


class Evaluation(NamedTuple):
    """Results of a method on a split.

    Attributes:
      scores: scores of all images, pooled.
      per_image: scores of each image, by its name.
      predictions: segmentation of each image, by its name; empty if they were not requested.
      seconds: duration of the evaluation.
    """

    scores: Scores
    per_image: dict[str, Scores]
    predictions: dict[str, Segmentation]
    seconds: float


def evaluate_labels(
    truth: Segmentation | np.ndarray,
    prediction: Segmentation | np.ndarray,
    *,
    class_names: Sequence[str] | None = None,
) -> Scores:
    """Scores the segmentation of one image against its truth.

    Args:
      truth: a `Segmentation`, or a label image [H, W] integer, 0 for background and one id per instance.
      prediction: the same for the prediction. Ids need not agree.
      class_names: names of the classes, background first; "class 1", "class 2", ... if None.

    Returns:
      The scores. Those of instances refer to the first foreground class; `per_class` has the others.

    Raises:
      ValueError: if shapes differ, or a class has no name.

    >>> truth, prediction = np.zeros((2, 8, 8), int)
    >>> truth[1:4, 1:5], truth[5:8, 2:8] = 1, 2
    >>> prediction[1:4, 1:4] = 7
    >>> scores = evaluate_labels(truth, prediction)
    >>> scores.ap[0.5], scores.ap[0.8], scores.pq, scores.aji, scores.iou["class 1"]
    (0.5, 0.0, 0.5, 0.3, 0.3)
    """
    if not isinstance(truth, Segmentation):
        truth = Segmentation.from_labels(truth)
    if not isinstance(prediction, Segmentation):
        prediction = Segmentation.from_labels(prediction)
    if class_names is None:
        maps = (truth.class_map, truth.semantic, prediction.class_map, prediction.semantic)
        highest = max(1, *(int(classes.max(initial=0)) for classes in maps))
        class_names = ("background", *(f"class {index}" for index in range(1, highest + 1)))
    return Statistics.of(truth, prediction, class_names).compute()


def evaluate(
    method: Method,
    source: Source,
    *,
    headline: str | None = None,
    keep_predictions: bool = False,
    description: str | None = None,
) -> Evaluation:
    """Runs a method on every record and scores it against the truth.

    Args:
      method: `image [H, W, C] -> Segmentation`.
      source: the images with their truth, and the names of the classes.
      headline: the class that the top-level instance scores refer to; the first foreground class if None.
      keep_predictions: whether to return the segmentations.
      description: shown at a progress bar; no bar if None.

    Returns:
      The evaluation.
    """
    start = time.monotonic()
    total = Statistics.empty(source.class_names, headline=headline)
    per_image, predictions = {}, {}
    for index in tqdm(
        range(len(source)), desc=description, unit="image", disable=description is None, leave=False
    ):
        record = source[index]
        prediction = method(record.image)
        statistics = Statistics.of(record.truth, prediction, source.class_names, headline=headline)
        total += statistics
        per_image[record.name] = statistics.compute()
        if keep_predictions:
            predictions[record.name] = prediction
    return Evaluation(total.compute(), per_image, predictions, time.monotonic() - start)
