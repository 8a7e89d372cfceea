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


def matched(truth, prediction, threshold):
    """True positives and their sum of IoU: most matches first, then most IoU."""
    intersection, union = tables(truth, prediction)
    iou = intersection / np.maximum(union, 1)
    rows, columns = linear_sum_assignment((iou >= threshold) + iou / (2 * max(iou.size, 1)), maximize=True)
    hits = [iou[i, j] for i, j in zip(rows, columns, strict=True) if iou[i, j] >= threshold]
    return len(hits), sum(hits)


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
