"""Scores of published tools, image by image, from dense tables; NaN where a tool has none."""

import math

import numpy as np

from tests.oracles import instance


def quality(truth, prediction):
    """HoVer-Net's DQ, SQ and PQ, without its 1e-6; NaN if both are empty."""
    n_true, n_predicted = (len(np.unique(labels[labels > 0])) for labels in (truth, prediction))
    if n_true + n_predicted == 0:
        return math.nan, math.nan, math.nan
    tp, iou = instance.matched(truth, prediction, 0.5, strict=True)
    detection = tp / (tp + (n_true - tp) / 2 + (n_predicted - tp) / 2)
    return detection, iou / max(tp, 1), detection * iou / max(tp, 1)


def pannuke(images, groups, classes):
    """bPQ and mPQ of images (truth, prediction, classes of the true ids, classes of the predicted ids)."""

    def of_ids(truth, prediction):
        return quality(truth, prediction)[2] if truth.any() else math.nan

    binary, multi = {}, {}
    for (truth, prediction, true_classes, predicted_classes), group in zip(images, groups, strict=True):
        per_class = []
        for index in classes:
            keep = [i for i, c in true_classes.items() if c == index]
            keep_predicted = [i for i, c in predicted_classes.items() if c == index]
            per_class.append(
                of_ids(
                    np.where(np.isin(truth, keep), truth, 0),
                    np.where(np.isin(prediction, keep_predicted), prediction, 0),
                )
            )
        binary.setdefault(group, []).append(of_ids(truth, prediction))
        multi.setdefault(group, []).append(mean(per_class))
    return tuple(mean([mean(values) for values in tissue.values()]) for tissue in (binary, multi))


def mean(values):
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def neurips_f1(truth, prediction):
    """F1 at IoU 0.5 without the ids in the two outer rows and columns."""
    sides = []
    for labels in (truth, prediction):
        inner = np.zeros(labels.shape, bool)
        inner[2:-2, 2:-2] = True
        sides.append(np.where(np.isin(labels, np.unique(labels[~inner])), 0, labels))
    tp, _ = instance.matched(*sides, 0.5)
    total = sum(len(np.unique(side[side > 0])) for side in sides)
    return 2 * tp / total if tp else 0.0
