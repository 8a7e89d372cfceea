"""RoIAlign and RoIPool, one sample at a time."""

import math

import numpy as np


def bilinear(features, y, x):
    height, width, channels = features.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(channels)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    total = np.zeros(channels)
    for row, weight_y in ((top, 1 - (y - top)), (min(top + 1, height - 1), y - top)):
        for column, weight_x in ((left, 1 - (x - left)), (min(left + 1, width - 1), x - left)):
            total += features[row, column] * weight_y * weight_x
    return total


def roi_align(features, box, *, bins, scale, sampling_ratio, aligned):
    x0, y0, x1, y1 = (scale * side - (0.5 if aligned else 0) for side in box)
    width, height = x1 - x0, y1 - y0
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    count_y = sampling_ratio or math.ceil(height / bins)
    count_x = sampling_ratio or math.ceil(width / bins)
    pooled = np.zeros((bins, bins, features.shape[-1]))
    for row in range(bins):
        for column in range(bins):
            for i in range(count_y):
                for j in range(count_x):
                    y = y0 + height * (row + (i + 0.5) / count_y) / bins
                    x = x0 + width * (column + (j + 0.5) / count_x) / bins
                    pooled[row, column] += bilinear(features, y, x) / (count_y * count_x)
    return pooled


def roi_pool(features, box, *, bins, scale):
    x0, y0, x1, y1 = (math.floor(abs(scale * side) + 0.5) * (1 if side >= 0 else -1) for side in box)
    width, height = max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1)
    pooled = np.zeros((bins, bins, features.shape[-1]))
    for row in range(bins):
        for column in range(bins):
            rows = range(y0 + row * height // bins, y0 - (-(row + 1) * height // bins))
            columns = range(x0 + column * width // bins, x0 - (-(column + 1) * width // bins))
            inside = [
                features[y, x]
                for y in rows
                for x in columns
                if 0 <= y < features.shape[0] and 0 <= x < features.shape[1]
            ]
            if inside:
                pooled[row, column] = np.max(inside, axis=0)
    return pooled
