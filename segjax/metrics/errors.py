"""Errors of instances by their kind, and what each kind costs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segjax.metrics.assignment import assign
from segjax.metrics.counts import Counts
from segjax.metrics.instance import FRAGMENT
from segjax.metrics.instance_scores import quarters
from segjax.metrics.overlaps import Overlaps

# The kinds of true and predicted instances; the number of a kind is its index.
KINDS = (
    "correct",
    "missed",  # a true instance without a prediction
    "spurious",  # a prediction without a true instance
    "split",  # a true instance in several parts, and these parts
    "merged",  # true instances in one prediction, and this prediction
    "bad_outline",  # a pair with an IoU of at least 0.1
    "wrong_class",  # a pair with an IoU of at least 0.5
    "double",  # a prediction in a true instance that has another one
)
CORRECT, MISSED, SPURIOUS, SPLIT, MERGED, BAD_OUTLINE, WRONG_CLASS, DOUBLE = range(len(KINDS))


class Kinds(NamedTuple):
    """The kind of each instance, an index into `KINDS`.

    Attributes:
      truth: [N] int, of the true instances.
      prediction: [M] int, of the predicted instances.
      iou: [N] float, IoU of each true instance with its partner; 0 without a partner of at least 0.5.
    """

    truth: np.ndarray
    prediction: np.ndarray
    iou: np.ndarray


def kinds_of(overlaps: Overlaps) -> Kinds:
    """Returns the kind of each instance of one image.

    A pair with an IoU of at least 0.5 is correct, or of the wrong class. The first of these kinds applies to
    the other instances: a true instance is split if several predictions have at least half of their pixels
    in it. A prediction merges the true instances that have at least half of their pixels in it if there are
    several. A prediction with half of its pixels in a true instance of a pair is a double. Pairs with an IoU
    of at least 0.1 have a bad outline. The rest is missed, or spurious.
    """
    rows, columns, pixels = overlaps.rows, overlaps.columns, overlaps.pixels
    truth = np.full(len(overlaps.truth), MISSED)
    prediction = np.full(len(overlaps.prediction), SPURIOUS)
    pairs = _partners(overlaps)
    is_same = overlaps.truth.classes[rows[pairs]] == overlaps.prediction.classes[columns[pairs]]
    truth[rows[pairs]] = prediction[columns[pairs]] = np.where(is_same, CORRECT, WRONG_CLASS)
    iou = np.zeros(len(truth))
    iou[rows[pairs]] = overlaps.iou[pairs]
    is_paired = np.isin(truth, (CORRECT, WRONG_CLASS))

    def is_free() -> np.ndarray:
        return (truth[rows] == MISSED) & (prediction[columns] == SPURIOUS)

    is_inside = 2 * pixels >= overlaps.prediction.areas[columns]
    parts = is_inside & is_free()
    parts &= (np.bincount(rows[parts], minlength=len(truth)) > 1)[rows]
    truth[rows[parts]] = prediction[columns[parts]] = SPLIT

    is_covered = (2 * pixels >= overlaps.truth.areas[rows]) & (truth[rows] != SPLIT)
    is_covered &= (np.bincount(columns[is_covered], minlength=len(prediction)) > 1)[columns]
    merged = is_covered & (truth[rows] == MISSED)
    blobs = merged & (prediction[columns] == SPURIOUS)
    truth[rows[merged]], prediction[columns[blobs]] = MERGED, MERGED

    prediction[columns[is_inside & is_paired[rows] & (prediction[columns] == SPURIOUS)]] = DOUBLE

    near = np.flatnonzero(is_free() & (overlaps.iou >= FRAGMENT))
    near = near[assign(rows[near], columns[near], overlaps.iou[near])]
    truth[rows[near]] = prediction[columns[near]] = BAD_OUTLINE
    return Kinds(truth, prediction, iou)


def _partners(overlaps: Overlaps) -> np.ndarray:
    """Returns the indices of the pairs of the assignment with the most pairs.

    Among several, it has the most pairs with equal classes; among these, the largest sum of IoU.

    Boxes overlap, so that several may have an IoU of at least 0.5 with one.
    """
    pairs = np.flatnonzero(overlaps.iou >= 0.5)
    rows, columns, iou = overlaps.rows[pairs], overlaps.columns[pairs], overlaps.iou[pairs]
    is_same = overlaps.truth.classes[rows] == overlaps.prediction.classes[columns]
    count = max(1, min(len(overlaps.truth), len(overlaps.prediction)))
    return pairs[assign(rows, columns, 1 + (is_same + iou / (2 * count)) / (2 * count))]


@dataclasses.dataclass(frozen=True)
class ErrorScores:
    """The errors of one kind.

    Attributes:
      truth: number of true instances that have this kind.
      predictions: number of predictions that have it.
      d_ap: increase of AP at IoU 0.5 if all of them were right.
      d_pq: increase of PQ at IoU 0.5.
    """

    truth: int
    predictions: int
    d_ap: float
    d_pq: float


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorStatistics(Counts):
    """The kinds of all instances; each field has one array for each image.

    Attributes:
      truth: kinds of the true instances.
      true_classes: their classes.
      true_areas: their areas, pixels.
      iou: their IoU with their partners.
      prediction: kinds of the predicted instances.
      classes: their classes.
      areas: their areas, pixels.
    """

    truth: tuple[np.ndarray, ...] = ()
    true_classes: tuple[np.ndarray, ...] = ()
    true_areas: tuple[np.ndarray, ...] = ()
    iou: tuple[np.ndarray, ...] = ()
    prediction: tuple[np.ndarray, ...] = ()
    classes: tuple[np.ndarray, ...] = ()
    areas: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, overlaps: Overlaps) -> ErrorStatistics:
        """Finds the kinds of one image."""
        kinds, true, predicted = kinds_of(overlaps), overlaps.truth, overlaps.prediction
        return cls(
            (kinds.truth,),
            (true.classes,),
            (true.areas,),
            (kinds.iou,),
            (kinds.prediction,),
            (predicted.classes,),
            (predicted.areas,),
        )

    def compute(self, class_names: Sequence[str]) -> dict[str, dict[str, ErrorScores]]:
        """Returns the errors of all instances, of each class and of each size, by kind.

        Repairs are those of TIDE: a missed instance is no longer in the truth, a spurious or double one no
        longer in the prediction, and others become true positives: with their IoU if only the class was
        wrong, else with an IoU of 1. The parts of a split instance, and a prediction that merges several,
        disappear. If nothing is left, AP and PQ are 1.

        Args:
          class_names: K names, background first.

        Returns:
          Errors by kind, by "all", name of the class, and quarter of the areas of the true instances: "q1"
          has the smallest. Predictions count for their own class and area.

        References:
          Bolya et al., https://doi.org/10.1007/978-3-030-58580-8_33
        """
        truth, true_classes, prediction, classes = (
            np.concatenate([np.zeros(0, int), *values])
            for values in (self.truth, self.true_classes, self.prediction, self.classes)
        )
        iou = np.concatenate([np.zeros(0), *self.iou])
        true_areas, areas = (
            np.concatenate([np.zeros(0), *values]) for values in (self.true_areas, self.areas)
        )
        edges, true_quarter = quarters(true_areas)
        quarter = np.searchsorted(edges, areas)

        def among(true: np.ndarray, predicted: np.ndarray) -> dict[str, ErrorScores]:
            return _costs(Kinds(truth[true], prediction[predicted], iou[true]))

        result = {"all": _costs(Kinds(truth, prediction, iou))}
        for index, name in enumerate(class_names[1:], start=1):
            result[name] = among(true_classes == index, classes == index)
        # Without true instances, no quarter has a limit.
        for index in range(len(edges) + 1 if true_areas.size else 0):
            result[f"q{index + 1}"] = among(true_quarter == index, quarter == index)
        return result


def _costs(kinds: Kinds) -> dict[str, ErrorScores]:
    """Returns the errors of some instances by kind."""
    is_right = kinds.truth == CORRECT
    right, wrong_true = int(is_right.sum()), int((~is_right).sum())
    wrong = int((kinds.prediction != CORRECT).sum())
    sum_iou = math.fsum(kinds.iou[is_right])
    has_any = right + wrong_true + wrong > 0
    before = _ap_and_pq(right, wrong_true, wrong, sum_iou) if has_any else (math.nan, math.nan)
    result = {}
    for kind, name in enumerate(KINDS[1:], start=1):
        is_kind = kinds.truth == kind
        true, predicted = int(is_kind.sum()), int((kinds.prediction == kind).sum())
        gained = 0 if kind == MISSED else true
        iou = math.fsum(kinds.iou[is_kind]) if kind == WRONG_CLASS else gained
        after = _ap_and_pq(right + gained, wrong_true - true, wrong - predicted, sum_iou + iou)
        result[name] = ErrorScores(true, predicted, after[0] - before[0], after[1] - before[1])
    return result


def _ap_and_pq(right: int, missed: int, spurious: int, sum_iou: float) -> tuple[float, float]:
    """Returns AP and PQ; 1 if nothing is left, as nothing is wrong."""
    if right + missed + spurious == 0:
        return 1.0, 1.0
    return right / (right + missed + spurious), sum_iou / (right + missed / 2 + spurious / 2)
