"""Assignment and linking, by trying all choices and by loops over cells."""

import itertools

import numpy as np


def best_total(gains):
    """Returns the largest sum of gains [R, C] of pairs of which no two have a row or a column in common."""
    rows, columns = gains.shape
    best = 0.0
    # A column number of `columns` and more leaves the row alone.
    for choice in itertools.permutations(range(columns + rows), rows):
        best = max(best, sum(gains[row, column] for row, column in enumerate(choice) if column < columns))
    return best


def link_gains(before, after, max_move, drift=(0, 0)):
    """Returns [N, M] the gain of each link of two frames, -inf where cells are too far away."""
    count, others = before.max(), after.max()
    pixels = [
        [{(y, x) for y, x in np.argwhere(labels == index + 1).tolist()} for index in range(labels.max())]
        for labels in (before, after)
    ]
    height, width = before.shape
    diameters = [np.sqrt(4 * len(cell) / np.pi) for cells in pixels for cell in cells]
    radius = max_move * np.median(diameters)
    gains = np.full((count, others), -np.inf)
    for i, j in itertools.product(range(count), range(others)):
        moved = {(y + drift[0], x + drift[1]) for y, x in pixels[0][i]}
        moved = {(y, x) for y, x in moved if 0 <= y < height and 0 <= x < width}
        shared = len(moved & pixels[1][j])
        iou = shared / len(moved | pixels[1][j])
        first = np.mean(list(pixels[0][i]), axis=0) + drift
        distance = np.linalg.norm(first - np.mean(list(pixels[1][j]), axis=0))
        if shared or distance < radius:
            gains[i, j] = 2 - min(distance / radius, 1) - (1 - iou)
    return gains
