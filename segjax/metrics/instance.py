"""Instance segmentation metrics: AP, F1, PQ and AJI from counts pooled over images."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from segjax.metrics.counts import Counts
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE

# Thresholds of the intersection over union (IoU). Below 0.5, matches would not be unique.
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclasses.dataclass(frozen=True)
class InstanceScores:
    """Scores of instances; NaN where undefined. Those without a threshold in their name are at IoU 0.5.

    Attributes:
      ap: TP / (TP + FP + FN) by IoU threshold.
      f1: the same as `rq`.
      precision: TP / (TP + FP).
      recall: TP / (TP + FN).
      pq: panoptic quality, SQ RQ.
      rq: recognition quality, TP / (TP + FP / 2 + FN / 2).
      sq: segmentation quality, the mean IoU of the true positives.
      aji: aggregated Jaccard index.
      mean_true_score: sum of IoU over the true positives / `n_true`.
      n_true: number of true instances.
      n_pred: number of predicted instances.
    """

    ap: dict[float, float]
    f1: float
    precision: float
    recall: float
    pq: float
    rq: float
    sq: float
    aji: float
    mean_true_score: float
    n_true: int
    n_pred: int


@dataclasses.dataclass(frozen=True, eq=False)
class InstanceStatistics(Counts):
    """Counts of matched instances.

    Pooling weights every instance equally, and images without true or predicted instances have no effect. Do
    not compare the results with per-image means.

    Attributes:
      matched: [T] int64, the true positives: pairs whose IoU is at least each of `THRESHOLDS`.
      sum_iou: [T] float64, the sum of IoU over these pairs.
      num_true: instances in the truth.
      num_predicted: instances in the prediction.
      intersection: the numerator of the aggregated Jaccard index (AJI), pixels.
      union: its denominator.
    """

    matched: np.ndarray
    sum_iou: np.ndarray
    num_true: int
    num_predicted: int
    intersection: int
    union: int

    @classmethod
    def empty(cls) -> InstanceStatistics:
        """Returns the counts of zero images."""
        zeros = np.zeros(len(THRESHOLDS))
        return cls(zeros.astype(np.int64), zeros, 0, 0, 0, 0)

    @classmethod
    def of(cls, truth: Segmentation, prediction: Segmentation) -> InstanceStatistics:
        """Counts one image. Ignores classes; pass `Segmentation.of_class` of both for one class.

        Pixels that are `IGNORE` in the truth are not counted, and an instance with more than half of its
        pixels there is left out.

        A pair matches at threshold t if its IoU is at least t, each instance at most once. At t > 0.5 no
        instance has two partners. At exactly 0.5 it can have two, its own exact halves, which touch
        nothing else; whichever of them is taken, the count is that of the best assignment.

        Args:
          truth: ground truth; its `labels` are used.
          prediction: predicted segmentation of the same shape.

        Returns:
          The statistics of this image.

        Raises:
          ValueError: if shapes differ.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in shape")
        ignored = truth.semantic == IGNORE
        labels_true, areas_true = _without_ignored(truth, ignored)
        labels_pred, areas_pred = _without_ignored(prediction, ignored)
        rows, columns, shared = _overlaps(labels_true, labels_pred, len(areas_pred))
        union = areas_true[rows] + areas_pred[columns] - shared
        iou = shared / union

        candidates = np.flatnonzero(iou >= THRESHOLDS[0])
        # Drops the second of two exact halves: each instance, true or predicted, keeps its first partner.
        for ids in (rows, columns):
            candidates = candidates[np.unique(ids[candidates], return_index=True)[1]]
        best = iou[candidates]
        passed = best[None, :] >= np.array(THRESHOLDS)[:, None]  # [T, candidates]

        # AJI: every true instance takes the prediction of highest IoU, the first of equals, and predictions
        # may be reused. Unmatched instances add their area to the union.
        order = np.lexsort((columns, -iou, rows))
        taken = order[np.unique(rows[order], return_index=True)[1]]
        alone = areas_true.sum() - areas_true[rows[taken]].sum()
        unused = areas_pred.sum() - areas_pred[np.unique(columns[taken])].sum()
        return cls(
            matched=passed.sum(axis=1),
            sum_iou=(passed * best).sum(axis=1),
            num_true=int((areas_true > 0).sum()),
            num_predicted=int((areas_pred > 0).sum()),
            intersection=int(shared[taken].sum()),
            union=int(union[taken].sum() + alone + unused),
        )

    def compute(self) -> InstanceScores:
        """Returns the scores of the pooled counts; F1, SQ, PQ and the like at the lowest threshold.

        Without any instance, true or predicted, all scores are NaN. Otherwise 0 / 0 is 0, as in StarDist:
        precision is 0 where nothing was predicted.

        References:
          AP, PQ: `stardist.matching` (a pair of IoU exactly 0.5 matches; HoVer-Net's PQ asks for more).
          AJI: Kumar et al., https://doi.org/10.1109/TMI.2017.2677499
        """
        tp, total = self.matched, self.num_true + self.num_predicted
        first, sum_iou = int(tp[0]), float(self.sum_iou[0])

        def ratio(numerator: float, denominator: float) -> float:
            if total == 0:
                return math.nan
            return float(numerator / denominator) if denominator > 0 else 0.0

        rq, sq = ratio(2 * first, total), ratio(sum_iou, first)
        return InstanceScores(
            ap={t: ratio(n, total - n) for t, n in zip(THRESHOLDS, tp, strict=True)},
            f1=rq,
            precision=ratio(first, self.num_predicted),
            recall=ratio(first, self.num_true),
            pq=sq * rq,
            rq=rq,
            sq=sq,
            aji=ratio(self.intersection, self.union),
            mean_true_score=ratio(sum_iou, self.num_true),
            n_true=self.num_true,
            n_pred=self.num_predicted,
        )


def _without_ignored(segmentation: Segmentation, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels without ignored pixels and instances, and their [N + 1] areas (background: 0)."""
    labels, size = segmentation.labels, segmentation.num_instances + 1
    areas = np.bincount(labels.ravel(), minlength=size)
    if ignored.any():
        hidden = np.bincount(labels[ignored], minlength=size)
        visible = 2 * hidden <= areas
        labels = np.where(visible[labels] & ~ignored, labels, 0)
        areas = np.where(visible, areas - hidden, 0)
    areas[0] = 0
    return labels, areas


def _overlaps(first: np.ndarray, second: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """Returns the overlapping pairs of ids and their pixel counts: only pairs that overlap, not N x M.

    Pixels are counted in runs along the rows: instances are compact, so there are far fewer runs to sort.
    """
    pairs = first.ravel().astype(np.int64) * size + second.ravel()
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    lengths = np.diff(starts, append=pairs.size)
    codes, index = np.unique(pairs[starts], return_inverse=True)
    counts = np.bincount(index, weights=lengths, minlength=len(codes)).astype(np.int64)
    rows, columns = codes // size, codes % size
    instances = (rows > 0) & (columns > 0)
    return rows[instances], columns[instances], counts[instances]
