"""Average precision of scored instances in the sense of COCO, of masks or boxes."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import numpy as np
from scipy import spatial

from segjax.metrics.counts import Counts
from segjax.settings import Count, Settings

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
# Ranges of areas, both ends included, pixels.
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}


@dataclasses.dataclass(frozen=True)
class CocoOptions(Settings):
    """Options of COCO's evaluation.

    Attributes:
      max_dets: largest number of predictions of a class in an image; those of the lowest scores are left out.
        COCO has 100, LIVECell 2000.
    """

    max_dets: Count = 2000


class Pairs(NamedTuple):
    """Pairs of true and predicted instances with their IoU; those below the lowest threshold may be missing.

    Attributes:
      rows: [P] int, indices of true instances.
      columns: [P] int, indices of predicted instances.
      iou: [P] float64.
    """

    rows: np.ndarray
    columns: np.ndarray
    iou: np.ndarray


@dataclasses.dataclass(frozen=True)
class CocoScores:
    """COCO's scores of one class; NaN where the truth has no instance.

    Attributes:
      ap: mean over the ten thresholds of IoU of the precision at 101 levels of recall.
      ap50: the same at IoU 0.5.
      ap75: the same at IoU 0.75.
      ap_small: `ap` of instances of at most 32**2 pixels.
      ap_medium: of up to 96**2 pixels.
      ap_large: of more pixels.
      ar: mean recall over the thresholds.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar: float


@dataclasses.dataclass(frozen=True, eq=False)
class CocoStatistics(Counts):
    """Matched predictions of one class, with their scores.

    Attributes:
      options: how many predictions take part.
      names: the name of each image; predictions of equal score are ordered by it, then as in the image.
      scores: for each image, [D] float, in descending order.
      hits: for each image, [A, T, D] bool, whether a prediction matches, by range of areas and threshold.
      ignored: for each image, [A, T, D] bool, whether it is left out, as its area is out of the range.
      num_true: [A] int64, number of true instances.
    """

    SAME: ClassVar[tuple[str, ...]] = ("options",)

    options: CocoOptions
    names: tuple[str, ...]
    scores: tuple[np.ndarray, ...]
    hits: tuple[np.ndarray, ...]
    ignored: tuple[np.ndarray, ...]
    num_true: np.ndarray

    @classmethod
    def empty(cls, options: CocoOptions = CocoOptions()) -> CocoStatistics:
        """Returns the counts of zero images."""
        return cls(options, (), (), (), (), np.zeros(len(AREAS), np.int64))

    @classmethod
    def of(
        cls,
        pairs: Pairs,
        true_areas: np.ndarray,
        areas: np.ndarray,
        scores: np.ndarray,
        *,
        name: str = "",
        options: CocoOptions = CocoOptions(),
    ) -> CocoStatistics:
        """Counts one class of one image.

        Args:
          pairs: the overlapping pairs of its N true and M predicted instances.
          true_areas: [N] areas, pixels.
          areas: [M] areas, pixels.
          scores: [M] confidence.
          name: name of the image.
          options: how many predictions take part.
        """
        order = np.argsort(-scores, kind="stable")[: options.max_dets]
        rank = np.full(len(scores), -1)
        rank[order] = np.arange(len(order))
        chosen = (pairs.iou >= THRESHOLDS[0]) & (rank[pairs.columns] >= 0)
        ranked = Pairs(pairs.rows[chosen], rank[pairs.columns[chosen]], pairs.iou[chosen])
        hits, ignored, count = [], [], []
        for low, high in AREAS.values():
            outside = (true_areas < low) | (true_areas > high)
            matched = _match(ranked, outside, len(order))
            hit = matched >= 0
            outsider = (areas[order] < low) | (areas[order] > high)
            hits.append(hit)
            ignored.append(np.where(hit, np.append(outside, False)[matched], outsider))
            count.append(len(true_areas) - outside.sum())
        return cls(
            options, (name,), (scores[order],), (np.array(hits),), (np.array(ignored),), np.array(count)
        )

    def compute(self) -> CocoScores:
        """Returns the scores of all images together.

        References:
          Lin et al., https://doi.org/10.1007/978-3-319-10602-1_48; `pycocotools.cocoeval.COCOeval`.
        """
        hits, ignored, _ = self._ordered()
        curves = {
            name: _precision(hits[index], ignored[index], int(self.num_true[index]))
            for index, name in enumerate(AREAS)
        }
        every, recall = curves["all"]
        return CocoScores(
            ap=float(every.mean()),
            ap50=float(every[0].mean()),
            ap75=float(every[5].mean()),
            **{f"ap_{name}": float(curves[name][0].mean()) for name in ("small", "medium", "large")},
            ar=float(recall.mean()),
        )

    def precision_recall(self) -> list[tuple[float, float]]:
        """Returns recall and precision of masks at IoU 0.5, at 101 levels of recall; empty without truth."""
        hits, ignored, _ = self._ordered()
        if not self.num_true[0]:
            return []
        precision, _ = _precision(hits[0], ignored[0], int(self.num_true[0]))
        return list(zip(RECALLS.tolist(), precision[0].tolist(), strict=True))

    def correct(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the score of each prediction, and whether it matches at IoU 0.5; in descending order."""
        hits, _, scores = self._ordered()
        return scores, hits[0, 0]

    def _ordered(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns hits and ignored [A, T, D], and scores [D], of all images in descending order of score."""
        images = sorted(range(len(self.names)), key=self.names.__getitem__)
        scores = np.concatenate([np.zeros(0, np.float32), *(self.scores[index] for index in images)])
        order = np.argsort(-scores, kind="stable")
        start = np.zeros((len(AREAS), len(THRESHOLDS), 0), bool)
        hits, ignored = (
            np.concatenate([start, *(values[index] for index in images)], axis=-1)[..., order]
            for values in (self.hits, self.ignored)
        )
        return hits, ignored, scores[order]


def box_pairs(true_boxes: np.ndarray, boxes: np.ndarray) -> Pairs:
    """Returns the pairs of boxes [N, 4] and [M, 4] whose IoU is at least the lowest threshold of COCO.

    >>> box_pairs(np.array([[0, 0, 4, 4]]), np.array([[8, 8, 9, 9], [0, 0, 4, 3]])).iou.tolist()
    [0.75]
    """
    true_boxes, boxes = np.asarray(true_boxes, float), np.asarray(boxes, float)
    areas, true_areas = (np.prod(side[:, 2:] - side[:, :2], axis=1) for side in (boxes, true_boxes))
    # Boxes with an IoU of 0.5 or more have corners that are at most one side of the true box apart.
    reach = 1.01 * (true_boxes[:, 2:] - true_boxes[:, :2]).max(axis=1, initial=0)
    near = spatial.KDTree(boxes[:, :2]).query_ball_point(
        true_boxes[:, :2], reach, p=np.inf, return_sorted=True
    )
    rows = np.repeat(np.arange(len(near)), [len(columns) for columns in near])
    columns = np.concatenate([np.zeros(0, int), *near]).astype(int)
    low = np.maximum(boxes[columns, :2], true_boxes[rows, :2])
    high = np.minimum(boxes[columns, 2:], true_boxes[rows, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    iou = common / (areas[columns] + true_areas[rows] - common)
    kept = iou >= THRESHOLDS[0]
    return Pairs(rows[kept], columns[kept], iou[kept])


def _match(pairs: Pairs, outside: np.ndarray, count: int) -> np.ndarray:
    """Matches predictions in descending order of score, each with the true instance of the highest IoU left.

    Args:
      pairs: pairs of true instances and ranks of predictions.
      outside: [N] bool, true instances that a prediction takes only if no other is left.
      count: number of predictions, D.

    Returns:
      [T, D] int, the true instance of each prediction at each threshold, -1 without one.
    """
    matched = np.full((len(THRESHOLDS), count), -1)
    alone = np.ones(len(pairs.rows), bool)
    for ids in (pairs.rows, pairs.columns):
        alone &= np.bincount(ids, minlength=1)[ids] == 1 if len(ids) else alone
    level, pair = np.nonzero((pairs.iou >= THRESHOLDS[:, None]) & alone)
    matched[level, pairs.columns[pair]] = pairs.rows[pair]
    is_taken = np.zeros((len(THRESHOLDS), len(outside)), bool)
    # Of equal IoU COCO takes the last true instance.
    rest = np.flatnonzero(~alone)
    rest = rest[
        np.lexsort((-pairs.rows[rest], -pairs.iou[rest], outside[pairs.rows[rest]], pairs.columns[rest]))
    ]
    for index in rest:
        row, column = pairs.rows[index], pairs.columns[index]
        free = (pairs.iou[index] >= THRESHOLDS) & ~is_taken[:, row] & (matched[:, column] < 0)
        matched[free, column] = row
        is_taken[free, row] = True
    return matched


def _precision(hits: np.ndarray, ignored: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the precision [T, R] at each level of recall, and the recall [T] of all predictions."""
    if count == 0:
        return np.full((len(THRESHOLDS), len(RECALLS)), math.nan), np.full(len(THRESHOLDS), math.nan)
    right = np.cumsum(hits & ~ignored, axis=1)
    wrong = np.cumsum(~hits & ~ignored, axis=1)
    recall = right / count
    precision = right / (right + wrong + np.spacing(1))
    # The highest precision at this recall or above.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(precision, ((0, 0), (0, 1)))
    levels = np.stack([np.searchsorted(row, RECALLS) for row in recall])
    last = recall[:, -1] if recall.shape[1] else np.zeros(len(THRESHOLDS))
    return np.take_along_axis(padded, levels, axis=1), last
