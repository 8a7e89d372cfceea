"""Matching of boxes with objects, one box at a time."""

import numpy as np

from tests.oracles.boxes import iou


def match(boxes, truth, valid, *, high, low, low_quality):
    overlaps = np.array(
        [[iou(box, t) if v else -1 for t, v in zip(truth, valid, strict=True)] for box in boxes]
    )
    state = []
    for row in overlaps:
        best = row.max(initial=-1)
        state.append(1 if best >= high else 0 if best < low else -1)
        for n, value in enumerate(row):
            if low_quality and value > 0 and value == overlaps[:, n].max():
                state[-1] = 1
    return np.array(state), overlaps.argmax(1)
