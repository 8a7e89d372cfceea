"""Parts of instances in the core of a tile, one instance at a time."""

import numpy as np


def pieces_by_loops(labels, count, tile):
    """Returns areas, sums of rows and columns, and boxes of instances 1..count."""
    top, left = tile.window.top, tile.window.left
    areas, rows, columns, boxes = [], [], [], []
    for index in range(1, count + 1):
        points = [
            (y + top, x + left)
            for y, x in np.argwhere(labels == index).tolist()
            if tile.core.top <= y + top < tile.core.bottom and tile.core.left <= x + left < tile.core.right
        ]
        ys, xs = [y for y, _ in points], [x for _, x in points]
        areas.append(len(points))
        rows.append(sum(ys))
        columns.append(sum(xs))
        boxes.append([min(xs), min(ys), max(xs) + 1, max(ys) + 1] if points else [0, 0, 0, 0])
    return areas, rows, columns, boxes
