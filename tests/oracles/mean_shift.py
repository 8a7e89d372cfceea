"""Mean shift, one pair at a time."""

import numpy as np


def mean_shift(points, starts, bandwidth, steps=300):
    ends = []
    for at in np.asarray(starts, float):
        for _ in range(steps):
            near = [point for point in points if np.linalg.norm(point - at) <= bandwidth]
            mean = np.mean(near, axis=0) if near else at
            if np.linalg.norm(mean - at) <= 1e-3 * bandwidth:
                at = mean
                break
            at = mean
        ends.append(at)
    return np.array(ends)


def grid_shift(weights, bandwidth):
    """The step at every node, under a Gaussian cut at ceil(4 bandwidth) nodes along each axis."""
    field = np.zeros((*weights.shape, 2))
    reach = int(np.ceil(4 * bandwidth))
    for y, x in np.ndindex(*weights.shape):
        total, moment = 0.0, np.zeros(2)
        for v, u in np.ndindex(*weights.shape):
            if max(abs(v - y), abs(u - x)) <= reach:
                share = weights[v, u] * np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * bandwidth**2))
                total += share
                moment += share * np.array([v - y, u - x])
        if total > 0:
            field[y, x] = moment / total
    return field
