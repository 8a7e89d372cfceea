"""Scores of instances from their counts."""

from __future__ import annotations

import dataclasses

import numpy as np

# Recall is stated for the instances between these quantiles of the areas of all true instances.
QUANTILES = (0.25, 0.5, 0.75)


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
      mean_ap: mean of `ap` over the thresholds, as in the Data Science Bowl 2018.
      sorted_ap: area below AP over all thresholds.
      aji_plus: aggregated Jaccard index of a one-to-one assignment.
      splits: number of true instances that overlap several predictions with an IoU above 0.1.
      merges: number of predictions that overlap several true instances with an IoU above 0.1.
      recall_by_size: recall of the true instances by their area: "q1" has the smallest quarter.
      size_quartiles: the areas between these quarters, pixels.
      f1_by_iou: F1 by IoU threshold.
      pq_by_iou: PQ by IoU threshold.
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
    mean_ap: float
    sorted_ap: float
    aji_plus: float
    splits: int
    merges: int
    recall_by_size: dict[str, float]
    size_quartiles: dict[str, float]
    f1_by_iou: dict[float, float]
    pq_by_iou: dict[float, float]


def quarters(areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the quartiles of areas [N], NaN without one, and the quarter 0..3 of each area."""
    edges = np.quantile(areas, QUANTILES) if len(areas) else np.full(len(QUANTILES), np.nan)
    return edges, np.searchsorted(edges, areas)


def sorted_ap(iou: np.ndarray, total: int) -> float:
    """Returns the area below AP by the trapezoidal rule: it falls at the IoU of each pair, and to 0 at 1.

    Args:
      iou: [P] float64, the IoU of the pairs of the assignment with the largest sum of IoU.
      total: number of true and predicted instances.
    """
    iou = np.sort(iou)
    if not len(iou):
        return 0.0
    left = len(iou) - np.arange(len(iou))
    ap = left / (total - left)
    x, y = np.r_[0.0, iou, 1.0], np.r_[ap[0], ap, 0.0]
    return float(np.trapezoid(y, x))


def recall_by_size(areas: np.ndarray, recalled: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the quartiles of the true areas [N], and the recall of the instances between them.

    Args:
      areas: [N] areas of the true instances, pixels.
      recalled: [N] bool, whether each is matched.
    """
    edges, quarter = quarters(areas)
    sizes = np.bincount(quarter, minlength=len(QUANTILES) + 1)
    hits = np.bincount(quarter, recalled, minlength=len(QUANTILES) + 1)
    recall = np.where(sizes > 0, hits / np.maximum(sizes, 1), np.nan).tolist()
    names = [f"{100 * quantile:g} %" for quantile in QUANTILES]
    return (
        dict(zip(names, edges.tolist(), strict=True)),
        {f"q{index}": value for index, value in enumerate(recall, start=1)},
    )
