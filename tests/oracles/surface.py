"""Surface metrics by all pairs of pixels of two boundaries."""

import math

import numpy as np


def boundary(mask):
    """Pixels of a mask with a neighbour of four outside; beyond the image nothing is outside."""
    height, width = mask.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if mask[y, x]
        and any(
            0 <= v < height and 0 <= u < width and not mask[v, u]
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        )
    ]


def distances(first, second):
    return [min(math.dist(p, q) for q in second) for p in first]


def scores(truth, prediction, tolerance):
    """Hausdorff 95, surface Dice and boundary F1 of two masks with a boundary each."""
    a, b = boundary(truth), boundary(prediction)
    forth, back = distances(a, b), distances(b, a)
    recall, precision = (np.mean([d <= tolerance for d in side]) for side in (forth, back))
    dice = sum(d <= tolerance for d in forth + back) / (len(a) + len(b))
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return max(np.percentile(forth, 95), np.percentile(back, 95)), dice, f1
