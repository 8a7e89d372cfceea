"""Flows and the paths along them, one pixel at a time."""

import math

import numpy as np


def flow_of(values, labels):
    result = np.zeros((*labels.shape, 2))
    for y, x in np.argwhere(labels > 0):
        for axis, (down, right) in enumerate(((1, 0), (0, 1))):
            steps = []
            for sign in (1, -1):
                v, u = y + sign * down, x + sign * right
                inside = 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1]
                if inside and labels[v, u] == labels[y, x]:
                    steps.append(sign * (values[v, u] - values[y, x]))
            result[y, x, axis] = np.mean(steps) if steps else 0
        length = np.linalg.norm(result[y, x])
        result[y, x] = result[y, x] / length if length > 1e-6 else 0
    return result


def follow(flow, points, *, steps):
    height, width = flow.shape[:2]
    ends = []
    for y, x in points:
        y, x = float(y), float(x)
        for _ in range(steps):
            move = np.zeros(2)
            for v in (math.floor(y), math.floor(y) + 1):
                for u in (math.floor(x), math.floor(x) + 1):
                    weight = (1 - abs(y - v)) * (1 - abs(x - u))
                    if weight > 0:
                        move += weight * flow[v, u]
            y, x = min(max(y + move[0], 0), height - 1), min(max(x + move[1], 0), width - 1)
        ends.append((y, x))
    return np.array(ends).reshape(-1, 2)
