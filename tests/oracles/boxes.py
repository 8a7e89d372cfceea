"""Boxes, one at a time."""

import math


def iou(a, b):
    both = overlap(a, b)
    either = area(a) + area(b) - both
    return both / either if either > 0 else 0.0


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def encode(box, anchor, weights):
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    return (
        weights[0] * ((box[0] + box[2]) / 2 - (anchor[0] + anchor[2]) / 2) / width,
        weights[1] * ((box[1] + box[3]) / 2 - (anchor[1] + anchor[3]) / 2) / height,
        weights[2] * math.log((box[2] - box[0]) / width),
        weights[3] * math.log((box[3] - box[1]) / height),
    )
