"""Boundaries and crowds, one pixel at a time."""

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


def crowded(labels, *, reach):
    marked = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        window = labels[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        marked[y, x] = len(set(window.flat) - {0}) > 1
    return marked
