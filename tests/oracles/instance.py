"""Instance matching on a dense IoU matrix: the best assignment for AP and PQ, argmax for AJI."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def tables(truth, prediction):
    """[N, M] intersections and unions of the ids of two label maps, whatever the ids."""
    first = [truth == i for i in np.unique(truth) if i != 0]
    second = [prediction == j for j in np.unique(prediction) if j != 0]
    shape = (len(first), len(second))
    intersection = [[int((a & b).sum()) for b in second] for a in first]
    union = [[int((a | b).sum()) for b in second] for a in first]
    return np.array(intersection, int).reshape(shape), np.array(union, int).reshape(shape)


def matched(truth, prediction, threshold, strict=False):
    """True positives and their sum of IoU: most matches first, then most IoU."""
    intersection, union = tables(truth, prediction)
    iou = intersection / np.maximum(union, 1)
    passes = iou > threshold if strict else iou >= threshold
    rows, columns = linear_sum_assignment(passes + iou / (2 * max(min(iou.shape), 1)), maximize=True)
    hits = [iou[i, j] for i, j in zip(rows, columns, strict=True) if passes[i, j]]
    return len(hits), sum(hits)


def assigned(truth, prediction):
    """The pairs of the one-to-one assignment with the largest sum of IoU, as (i, j, IoU)."""
    intersection, union = tables(truth, prediction)
    iou = intersection / np.maximum(union, 1)
    pairs = zip(*linear_sum_assignment(iou, maximize=True), strict=True)
    return [(i, j, iou[i, j]) for i, j in pairs if iou[i, j] > 0]


def aggregated_jaccard_plus(truth, prediction):
    """Numerator and denominator of AJI+, as in HoVer-Net."""
    intersection, union = tables(truth, prediction)
    pairs = assigned(truth, prediction)
    areas = [[int((m == i).sum()) for i in np.unique(m) if i != 0] for m in (truth, prediction)]
    below = sum(union[i, j] for i, j, _ in pairs)
    below += sum(area for i, area in enumerate(areas[0]) if i not in {pair[0] for pair in pairs})
    below += sum(area for j, area in enumerate(areas[1]) if j not in {pair[1] for pair in pairs})
    return sum(intersection[i, j] for i, j, _ in pairs), below


def sorted_ap(truth, prediction):
    """SortedAP, as in its authors' code."""
    values = sorted(iou for _, _, iou in assigned(truth, prediction) if iou >= 0.001)
    n_true, n_predicted = tables(truth, prediction)[0].shape
    points = [
        (iou, (len(values) - k) / (n_predicted + n_true - len(values) + k)) for k, iou in enumerate(values)
    ]
    area, last = 0.0, (0.0, points[0][1] if points else 0.0)
    for point in [*points, (1.0, 0.0)]:
        area += (point[0] - last[0]) * (point[1] + last[1]) / 2
        last = point
    return area if points else 0.0


def splits_and_merges(truth, prediction):
    """Numbers of true and of predicted instances with several partners, as in Caicedo et al."""
    intersection, union = tables(truth, prediction)
    near = intersection / np.maximum(union, 1) > 0.1
    return int((near.sum(axis=1) > 1).sum()), int((near.sum(axis=0) > 1).sum())


def aggregated_jaccard(truth, prediction):
    """Numerator and denominator of the AJI."""
    intersection, union = tables(truth, prediction)
    areas_true = [int((truth == i).sum()) for i in np.unique(truth) if i != 0]
    areas_predicted = [int((prediction == j).sum()) for j in np.unique(prediction) if j != 0]
    above = below = 0
    used = set()
    for i, area in enumerate(areas_true):
        best, best_iou = None, 0.0
        for j in range(len(areas_predicted)):
            if intersection[i, j] and intersection[i, j] / union[i, j] > best_iou:
                best, best_iou = j, intersection[i, j] / union[i, j]
        if best is None:
            below += area
        else:
            above, below = above + intersection[i, best], below + union[i, best]
            used.add(best)
    return above, below + sum(area for j, area in enumerate(areas_predicted) if j not in used)
