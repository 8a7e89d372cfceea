"""Poisson's equation and diffusion by a dense matrix, one instance and one pixel at a time."""

import numpy as np


def solve(labels, source):
    """Solves laplace(u) = -source among the pixels of each instance, with u = 0 elsewhere."""
    result = np.zeros(labels.shape)
    for index in np.unique(labels[labels > 0]):
        pixels = [tuple(pixel) for pixel in np.argwhere(labels == index)]
        matrix = np.zeros((len(pixels), len(pixels)))
        for row, (y, x) in enumerate(pixels):
            matrix[row, row] = 4
            for neighbour in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if neighbour in pixels:
                    matrix[row, pixels.index(neighbour)] = -1
        values = np.linalg.solve(matrix, np.array([source[pixel] for pixel in pixels], float))
        for pixel, value in zip(pixels, values, strict=True):
            result[pixel] = value
    return result


def instance_poisson(labels):
    solution = solve(labels, np.ones(labels.shape))
    for index in np.unique(labels[labels > 0]):
        solution[labels == index] /= solution[labels == index].max()
    return solution


def pieces(labels):
    """Numbers the sets of pixels of an instance that are connected by edges."""
    result = np.zeros(labels.shape, int)
    for start in np.ndindex(labels.shape):
        if labels[start] == 0 or result[start]:
            continue
        number, stack = result.max() + 1, [start]
        while stack:
            y, x = stack.pop()
            inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
            if inside and labels[y, x] == labels[start] and not result[y, x]:
                result[y, x] = number
                stack += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return result


def instance_diffusion(labels):
    parts, source = pieces(labels), np.zeros(labels.shape)
    for index in range(1, parts.max() + 1):
        pixels = np.argwhere(parts == index)
        middle = np.median(pixels, axis=0)
        distances = [np.square(pixel - middle).sum() for pixel in pixels]
        source[tuple(pixels[np.argmin(distances)])] = 1
    heat = solve(parts, source)
    result = np.zeros(labels.shape)
    for index in range(1, parts.max() + 1):
        inside = parts == index
        result[inside] = 1 + np.log(heat[inside]) - np.log(heat[inside].min())
    return result
