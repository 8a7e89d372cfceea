"""Boundaries and gaps, one pixel at a time."""

import numpy as np


def boundaries(labels, ignored, *, width):
    marked = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        for v, u in np.ndindex(labels.shape):
            is_other = labels[v, u] != labels[y, x] and not ignored[v, u]
            if labels[y, x] != 0 and max(abs(v - y), abs(u - x)) <= width and is_other:
                marked[y, x] = True
    return marked


def near_two_instances(labels, *, radius):
    marked = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        window = labels[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        marked[y, x] = len(set(window.flat) - {0}) > 1
    return marked
