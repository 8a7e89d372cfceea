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
