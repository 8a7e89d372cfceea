"""Pixel scores by definition, one pixel at a time."""

import math

from segjax.typing import IGNORE


def confusion(truth, prediction, num_classes):
    """[K][K] counts from two [H, W] maps of classes."""
    counts = [[0] * num_classes for _ in range(num_classes)]
    for row_true, row_predicted in zip(truth, prediction, strict=True):
        for true, predicted in zip(row_true, row_predicted, strict=True):
            if true != IGNORE:
                counts[true][predicted] += 1
    return counts


def iou_and_dice(counts, index):
    others = [k for k in range(len(counts)) if k != index]
    tp = counts[index][index]
    fn = sum(counts[index][k] for k in others)
    fp = sum(counts[k][index] for k in others)
    if tp + fp + fn == 0:
        return math.nan, math.nan
    return tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn)


def precision_and_recall(counts, index):
    tp, classes = counts[index][index], range(len(counts))
    predicted, true = sum(counts[k][index] for k in classes), sum(counts[index][k] for k in classes)
    return tp / predicted if predicted else math.nan, tp / true if true else math.nan
