"""Normalised depth inside each instance, one pixel after another."""

import numpy as np


def instance_distance(labels):
    height, width = labels.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    depth = np.zeros(labels.shape)
    for y, x in pixels:
        if labels[y, x]:
            foreign = [(v, u) for v, u in pixels if labels[v, u] != labels[y, x]]
            depth[y, x] = min(((v - y) ** 2 + (u - x) ** 2) ** 0.5 for v, u in foreign) if foreign else 1
    for index in np.unique(labels[labels > 0]):
        depth[labels == index] /= depth[labels == index].max()
    return depth
