"""Counts of matched instances, pooled over images: AP, F1, PQ, AJI, SortedAP, splits and merges."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from segjax.metrics.assignment import assign, heaviest, is_first, match
from segjax.metrics.counts import Counts
from segjax.metrics.instance_scores import InstanceScores, recall_by_size, sorted_ap
from segjax.metrics.options import EMPTY, InstanceOptions
from segjax.metrics.overlaps import Overlaps
from segjax.segmentation import Segmentation

# Thresholds of the intersection over union (IoU), those of COCO and of the Data Science Bowl 2018.
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
# Pairs of a lower IoU neither split nor merge an instance (Caicedo et al. 2019).
FRAGMENT = 0.1
# SortedAP leaves pairs of a lower IoU out.
LEAST = 0.001
# A float of at most 1 is an integer of 54 bits; two integers of fewer bits have sums that never overflow.
BITS, LOW_BITS = 53, 27


@dataclasses.dataclass(frozen=True, eq=False)
class InstanceStatistics(Counts):
    """Counts of matched instances; sums are exact, so that the order of the images does not matter.

    Pooling weights every instance equally, and images without true or predicted instances have no effect. Do
    not compare the results with per-image means.

    Attributes:
      thresholds: T thresholds of IoU.
      matched: [2, T] int64, the true positives: pairs whose IoU is at least each threshold, and pairs whose
        IoU is above it.
      iou_parts: [2, T, 2] int64, the sum of IoU over these pairs: a multiple of 2**(27 - 53), and one of
        2**-53.
      num_true: instances in the truth.
      num_predicted: instances in the prediction.
      intersection: the numerator of the aggregated Jaccard index (AJI), pixels.
      union: its denominator.
      intersection_plus: the numerator of AJI+, pixels.
      union_plus: its denominator.
      splits: true instances that overlap several predictions with an IoU above 0.1.
      merges: predicted instances that overlap several true ones with an IoU above 0.1.
      assigned: for each image, float64 IoU of the pairs of the assignment with the largest sum of IoU.
      areas: for each image, [N] int64 areas of the true instances, pixels.
      recalled: for each image, [N] bool, whether a true instance is matched at the first threshold.
    """

    SAME: ClassVar[tuple[str, ...]] = ("thresholds",)

    thresholds: tuple[float, ...]
    matched: np.ndarray
    iou_parts: np.ndarray
    num_true: int
    num_predicted: int
    intersection: int
    union: int
    intersection_plus: int
    union_plus: int
    splits: int
    merges: int
    assigned: tuple[np.ndarray, ...]
    areas: tuple[np.ndarray, ...]
    recalled: tuple[np.ndarray, ...]

    @classmethod
    def empty(cls, thresholds: Sequence[float] = THRESHOLDS) -> InstanceStatistics:
        """Returns the counts of zero images."""
        zeros = np.zeros((2, len(thresholds), 2), np.int64)
        return cls(tuple(thresholds), zeros[..., 0], zeros, 0, 0, 0, 0, 0, 0, 0, 0, (), (), ())

    @classmethod
    def of(
        cls, truth: Segmentation, prediction: Segmentation, thresholds: Sequence[float] = THRESHOLDS
    ) -> InstanceStatistics:
        """Counts one image. Ignores classes; see `Overlaps.of` for pixels that are `IGNORE` in the truth.

        Raises:
          ValueError: if shapes differ.
        """
        return cls.of_overlaps(Overlaps.of(truth, prediction), thresholds)

    @classmethod
    def of_overlaps(cls, overlaps: Overlaps, thresholds: Sequence[float] = THRESHOLDS) -> InstanceStatistics:
        """Counts one image from the table of its overlaps.

        A pair matches at threshold t if its IoU is at least, or above, t, each instance at most once. At
        t > 0.5 no instance has two partners. At exactly 0.5 it can have two, its own exact halves, which
        touch nothing else; whichever of them is taken, the count is that of the best assignment. Below 0.5
        the pairs are those of the assignment with most pairs, as in StarDist.

        Args:
          overlaps: the table of one image, or of one of its classes.
          thresholds: thresholds of IoU, between 0 and 1.
        """
        iou = overlaps.iou
        counted = [[iou[match(overlaps, t, strict=strict)] for t in thresholds] for strict in (False, True)]
        units = [[(values * 2.0**BITS).astype(np.int64) for values in row] for row in counted]
        low = 2**LOW_BITS - 1
        recalled = np.zeros(len(overlaps.truth), bool)
        recalled[overlaps.rows[match(overlaps, thresholds[0])]] = True
        pairs = assign(overlaps.rows, overlaps.columns, iou)
        # AJI: every true instance takes the prediction of highest IoU, the first of equals, and predictions
        # may be reused. Unmatched instances add their area to the union.
        best = np.flatnonzero(iou == heaviest(overlaps.rows, iou)[overlaps.rows])
        best = best[is_first(overlaps.rows[best])]
        fragments = iou > FRAGMENT
        intersection, union = _jaccard(overlaps, best)
        intersection_plus, union_plus = _jaccard(overlaps, pairs)
        return cls(
            thresholds=tuple(thresholds),
            matched=np.array([[len(values) for values in row] for row in counted]),
            iou_parts=np.array([[[(v >> LOW_BITS).sum(), (v & low).sum()] for v in row] for row in units]),
            num_true=len(overlaps.truth),
            num_predicted=len(overlaps.prediction),
            intersection=intersection,
            union=union,
            intersection_plus=intersection_plus,
            union_plus=union_plus,
            splits=int((np.bincount(overlaps.rows[fragments]) > 1).sum()),
            merges=int((np.bincount(overlaps.columns[fragments]) > 1).sum()),
            assigned=(iou[pairs][iou[pairs] >= LEAST],),
            areas=(overlaps.truth.areas,),
            recalled=(recalled,),
        )

    @property
    def sum_iou(self) -> np.ndarray:
        """[2, T] float64, the sum of IoU over the true positives."""
        sums = [[(int(high) << LOW_BITS) + int(low) for high, low in row] for row in self.iou_parts]
        return np.array([[value / 2**BITS for value in row] for row in sums])

    def compute(self, options: InstanceOptions = InstanceOptions()) -> InstanceScores:
        """Returns the scores of the pooled counts, whatever `options.average` is.

        F1, SQ, PQ and the like are at the first threshold. Without any instance, true or predicted, all
        scores have the value of `options.empty`. Otherwise 0 / 0 is 0, as in StarDist: precision is 0 where
        nothing was predicted.

        References:
          AP, PQ: `stardist.matching`.
          AJI: Kumar et al., https://doi.org/10.1109/TMI.2017.2677499
          AJI+: Graham et al., https://doi.org/10.1016/j.media.2019.101563
          SortedAP: Chen et al., https://doi.org/10.1109/ICCVW60793.2023.00424
        """
        row = int(options.strict)
        matched, sum_iou = self.matched[row].tolist(), self.sum_iou[row].tolist()
        total = self.num_true + self.num_predicted
        undefined = total == 0 or (options.empty == "nan_without_truth" and self.num_true == 0)

        def ratio(numerator: float, denominator: float) -> float:
            if undefined:
                return EMPTY[options.empty]
            return float(numerator / denominator) if denominator > 0 else 0.0

        first, first_iou = matched[0], sum_iou[0]
        rq, sq = ratio(2 * first, total), ratio(first_iou, first)
        ap = {t: ratio(n, total - n) for t, n in zip(self.thresholds, matched, strict=True)}
        quartiles, recall = recall_by_size(
            np.concatenate([*self.areas, np.zeros(0)]), np.concatenate([*self.recalled, np.zeros(0, bool)])
        )
        return InstanceScores(
            ap=ap,
            f1=rq,
            precision=ratio(first, self.num_predicted),
            recall=ratio(first, self.num_true),
            pq=sq * rq,
            rq=rq,
            sq=sq,
            aji=ratio(self.intersection, self.union),
            mean_true_score=ratio(first_iou, self.num_true),
            n_true=self.num_true,
            n_pred=self.num_predicted,
            mean_ap=sum(ap.values()) / len(ap),
            sorted_ap=ratio(sorted_ap(np.concatenate([*self.assigned, np.zeros(0)]), total), 1),
            aji_plus=ratio(self.intersection_plus, self.union_plus),
            splits=self.splits,
            merges=self.merges,
            recall_by_size=recall,
            size_quartiles=quartiles,
            f1_by_iou={t: ratio(2 * n, total) for t, n in zip(self.thresholds, matched, strict=True)},
            pq_by_iou={t: ratio(2 * iou, total) for t, iou in zip(self.thresholds, sum_iou, strict=True)},
        )


def _jaccard(overlaps: Overlaps, pairs: np.ndarray) -> tuple[int, int]:
    """Returns the pixels in both instances of the pairs, and in either or in an instance without partner."""
    sides = ((overlaps.truth, overlaps.rows), (overlaps.prediction, overlaps.columns))
    union = int(overlaps.union[pairs].sum())
    for side, ids in sides:
        is_alone = np.ones(len(side), bool)
        is_alone[ids[pairs]] = False
        union += int(side.areas[is_alone].sum())
    return int(overlaps.pixels[pairs].sum()), union
