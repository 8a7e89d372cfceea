"""Reads an image at some places, one place at a time."""

import math

import numpy as np


def sample(image, coordinates, *, order, fill):
    channels = image.shape[-1]
    result = np.zeros((*coordinates.shape[1:], channels), image.dtype)
    for at in np.ndindex(coordinates.shape[1:]):
        y, x = (float(axis[at]) for axis in coordinates)
        if order == 0:
            result[at] = pixel(image, round(y), round(x), fill)
            continue
        top, left = math.floor(y), math.floor(x)
        value = np.zeros(channels)
        for v in (top, top + 1):
            for u in (left, left + 1):
                value += (1 - abs(y - v)) * (1 - abs(x - u)) * pixel(image, v, u, fill)
        result[at] = value
    return result


def pixel(image, y, x, fill):
    inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
    if not inside and fill is not None:
        return np.full(image.shape[-1], fill)
    return image[mirrored(y, image.shape[0]), mirrored(x, image.shape[1])]


def mirrored(index, size):
    """Walks to and fro between the first and the last pixel."""
    while not 0 <= index < size:
        index = -index if index < 0 else 2 * (size - 1) - index
    return index


def sample_inside(values, labels, coordinates, own):
    result = np.zeros(own.shape)
    for at in np.ndindex(own.shape):
        y, x = (float(axis[at]) for axis in coordinates)
        taps = [
            (v, u) for v in (math.floor(y), math.floor(y) + 1) for u in (math.floor(x), math.floor(x) + 1)
        ]
        clipped = [(min(max(v, 0), len(labels) - 1), min(max(u, 0), labels.shape[1] - 1)) for v, u in taps]
        weights = [
            (1 - abs(y - v)) * (1 - abs(x - u)) * (labels[pixel] == own[at])
            for (v, u), pixel in zip(taps, clipped, strict=True)
        ]
        if sum(weights):
            result[at] = np.average([values[pixel] for pixel in clipped], weights=weights)
    return result
