"""Boundaries and gaps, one pixel at a time."""

import numpy as np


def boundaries(labels, *, connectivity, width):
    marked = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        for v, u in np.ndindex(labels.shape):
            down, right = abs(v - y), abs(u - x)
            steps = down + right if connectivity == 1 else max(down, right)
            if labels[y, x] != 0 and steps <= width and labels[v, u] != labels[y, x]:
                marked[y, x] = True
    return marked


def near_two_instances(labels, *, radius):
    marked = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        window = labels[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        marked[y, x] = len(set(window.flat) - {0}) > 1
    return marked
