"""Greedy non-maximum suppression, one box at a time."""

import numpy as np

from tests.oracles.boxes import iou


def nms(boxes, scores, valid, *, iou_threshold, classes):
    selected = []
    for j in sorted(np.flatnonzero(valid), key=lambda i: (-scores[i], i)):
        if not any(classes[i] == classes[j] and iou(boxes[i], boxes[j]) > iou_threshold for i in selected):
            selected.append(j)
    return np.isin(np.arange(len(boxes)), selected)
