"""Pixel-wise metrics: confusion matrix, IoU, Dice and accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from segjax.metrics.counts import Counts
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE

# Pixels that are counted at a time; so many stay in the cache of a processor.
BLOCK = 2**16


@dataclasses.dataclass(frozen=True)
class PixelScores:
    """Scores of pixels; NaN where undefined.

    Attributes:
      iou: TP / (TP + FP + FN) by class.
      dice: 2 TP / (2 TP + FP + FN) by class.
      mean_iou: mean over the classes that have an IoU, background included.
      pixel_accuracy: fraction of the pixels with the correct class.
      pixel_precision: TP / (TP + FP) by class.
      pixel_recall: TP / (TP + FN) by class.
    """

    iou: dict[str, float]
    dice: dict[str, float]
    mean_iou: float
    pixel_accuracy: float
    pixel_precision: dict[str, float]
    pixel_recall: dict[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class PixelStatistics(Counts):
    """Counts of pixels by true and predicted class.

    Attributes:
      confusion: [K, K] int64, `confusion[i, j]` is the number of pixels of class i predicted as class j.
    """

    confusion: np.ndarray

    @classmethod
    def empty(cls, num_classes: int) -> PixelStatistics:
        """Returns the statistics of zero images."""
        return cls(np.zeros((num_classes, num_classes), np.int64))

    @classmethod
    def of(cls, truth: Segmentation, prediction: Segmentation, num_classes: int) -> PixelStatistics:
        """Counts one image.

        Args:
          truth: ground truth; pixels whose `semantic` is `IGNORE` are not counted.
          prediction: predicted segmentation of the same shape; it needs a class wherever the truth has one.
          num_classes: K, background included.

        Returns:
          The statistics of this image.

        Raises:
          ValueError: if shapes differ, or a counted pixel has a class outside 0..K-1.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in shape")
        rows, columns = truth.semantic.ravel(), prediction.semantic.ravel()
        if rows.min(initial=0) == IGNORE:
            counted = rows != IGNORE
            rows, columns = rows[counted], columns[counted]
        for name, classes in (("truth", rows), ("prediction", columns)):
            if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
                raise ValueError(
                    f"the {name} holds classes {classes.min()}..{classes.max()}, but there are"
                    f" {num_classes} classes, 0..{num_classes - 1}"
                )
        counts = np.zeros(num_classes**2, np.int64)
        for start in range(0, rows.size, BLOCK):
            block = slice(start, start + BLOCK)
            counts += np.bincount(rows[block] * num_classes + columns[block], minlength=num_classes**2)
        return cls(counts.reshape(num_classes, num_classes))

    def compute(self, class_names: Sequence[str]) -> PixelScores:
        """Returns the scores over all pooled pixels.

        A class in neither truth nor prediction has no IoU: NaN is neither a perfect score nor a failure.

        Args:
          class_names: K names, background first.
        """
        if len(class_names) != len(self.confusion):
            raise ValueError(f"{len(class_names)} names for {len(self.confusion)} classes")
        hits = np.diag(self.confusion)
        true, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        iou = _ratio(hits, true + predicted - hits)
        present = true + predicted > 0

        def by_class(values: np.ndarray) -> dict[str, float]:
            return dict(zip(class_names, values.tolist(), strict=True))

        return PixelScores(
            iou=by_class(iou),
            dice=by_class(_ratio(2 * hits, true + predicted)),
            mean_iou=float(_ratio(iou[present].sum(), present.sum())),
            pixel_accuracy=float(_ratio(hits.sum(), self.confusion.sum())),
            pixel_precision=by_class(_ratio(hits, predicted)),
            pixel_recall=by_class(_ratio(hits, true)),
        )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns the ratio, NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), np.nan)
