"""Outlines of the instances of a label map, along the edges of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

# Closed line [V, 2] int32, `(x, y)` with pixel edges at integers; the first vertex is not repeated.
Ring = np.ndarray
# An outline with positive area, then its holes with negative area.
Polygon = list[Ring]

# Number of instances that are traced together, in a strip of the image.
GROUP = 512
# Sides of a pixel, clockwise from the top. Row and column of the step along each, of the pixel beyond it, and
# of its first corner.
ALONG = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
BEYOND = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
CORNER = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])


def trace(labels: np.ndarray) -> list[list[Polygon]]:
    """Returns the polygons of each instance of a label map; they contain exactly its pixels.

    Pixels that touch only at a corner belong to different polygons. No ring touches itself, and only corners
    are vertices.

    Args:
      labels: [H, W] integer, 0 for background, instances 1..N without gaps.

    Returns:
      N lists of polygons.

    >>> trace(np.array([[0, 1, 1], [0, 1, 1]]))[0][0][0].tolist()
    [[1, 0], [3, 0], [3, 2], [1, 2]]
    """
    boxes = ndimage.find_objects(labels)
    order = np.argsort([rows.start for rows, _ in boxes], kind="stable")
    traced: list[list[Polygon]] = [[] for _ in boxes]
    for start in range(0, len(order), GROUP):
        group = order[start : start + GROUP]
        top = min(boxes[index][0].start for index in group)
        bottom = max(boxes[index][0].stop for index in group)
        left = min(boxes[index][1].start for index in group)
        right = max(boxes[index][1].stop for index in group)
        is_traced = np.zeros(len(boxes) + 1, bool)
        is_traced[group + 1] = True
        rings = _rings(np.pad(labels[top:bottom, left:right], 1), is_traced)
        for index, loops in rings.items():
            traced[index - 1] = _polygons([loop + np.array([left, top], np.int32) for loop in loops])
    return traced


def area(ring: Ring) -> float:
    """Returns the area inside a ring, negative for a hole."""
    x, y = (ring - ring[0]).astype(np.float64).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _rings(padded: np.ndarray, is_traced: np.ndarray) -> dict[int, list[Ring]]:
    """Returns the rings of the instances in a padded label map [h + 2, w + 2], in pixels of the map."""
    corners = _corners(padded, is_traced)
    following, done = corners.following.tolist(), bytearray(len(corners.following))
    walked: list[int] = []
    ends = [0]
    for first in range(len(following)):
        if done[first]:
            continue
        corner = first
        while not done[corner]:
            done[corner] = 1
            walked.append(corner)
            corner = following[corner]
        ends.append(len(walked))
    order = np.array(walked, np.int64)
    vertices, labels = corners.vertices[order], corners.labels[order[ends[:-1]]].tolist()
    touched = np.add.reduceat(corners.touches[order], ends[:-1]).tolist() if labels else []
    rings: dict[int, list[Ring]] = {}
    for number, label in enumerate(labels):
        ring = vertices[ends[number] : ends[number + 1]]
        rings.setdefault(label, []).extend(_simple(ring) if touched[number] else [ring])
    return rings


class _Corners(NamedTuple):
    """The corners of the outlines of instances.

    Attributes:
      labels: [V] the instance.
      following: [V] the next corner, clockwise around the pixels of the instance.
      vertices: [V, 2] int32, `(x, y)`.
      touches: [V] whether the instance also has the pixel opposite to the corner.
    """

    labels: np.ndarray
    following: np.ndarray
    vertices: np.ndarray
    touches: np.ndarray


def _corners(padded: np.ndarray, is_traced: np.ndarray) -> _Corners:
    width, flat = padded.shape[1], padded.ravel()
    along, beyond = (steps @ np.array([width, 1]) for steps in (ALONG, BEYOND))
    # Without the first and the last row, which are padding; the first and the last column are background.
    inner, last = flat[width:-width], len(flat) - width
    traced = is_traced[inner]
    pixels = [np.flatnonzero((inner != flat[width + step : last + step]) & traced) + width for step in beyond]
    pixel, side = np.concatenate(pixels), np.repeat(np.arange(4), [len(each) for each in pixels])
    label = flat[pixel]
    ahead = pixel + along[side]
    opposite = ahead + beyond[side]
    turns = flat[ahead] != label
    touches = flat[opposite] == label
    next_pixel = np.where(turns, pixel, np.where(touches, opposite, ahead))
    next_side = np.where(turns, side + 1, np.where(touches, side - 1, side)) % 4
    numbers = np.empty(len(flat) * 4, np.int32)
    numbers[pixel * 4 + side] = np.arange(len(pixel), dtype=np.int32)
    following = numbers[next_pixel * 4 + next_side]
    # A corner is the start of an edge that has another direction than the edge before it.
    is_corner, is_touched = np.zeros((2, len(pixel)), bool)
    is_corner[following], is_touched[following] = next_side != side, turns & touches
    while not (reached := is_corner[following]).all():  # each pass doubles the steps along straight lines
        following = np.where(reached, following, following[following])
    corners = np.flatnonzero(is_corner)
    numbers = np.cumsum(is_corner) - 1
    # Without the padding.
    vertices = np.stack(np.divmod(pixel[corners], width), axis=1) + CORNER[side[corners]] - 1
    return _Corners(
        label[corners],
        numbers[following[corners]],
        vertices[:, ::-1].astype(np.int32),
        is_touched[corners],
    )


def _simple(ring: Ring) -> list[Ring]:
    """Splits a ring where it meets itself."""
    loops: list[Ring] = []
    path: list[tuple[int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for x, y in ring.tolist():
        if (x, y) in seen:
            start = seen[x, y]
            loops.append(np.array(path[start:], np.int32))
            for point in path[start + 1 :]:
                del seen[point]
            del path[start + 1 :]
        else:
            seen[x, y] = len(path)
            path.append((x, y))
    return [*loops, np.array(path, np.int32)]


def _polygons(rings: Sequence[Ring]) -> list[Polygon]:
    if len(rings) == 1:
        return [list(rings)]
    areas = [area(ring) for ring in rings]
    outer = sorted((size, index) for index, size in enumerate(areas) if size > 0)
    polygons = {index: [rings[index]] for index, size in enumerate(areas) if size > 0}
    for index, size in enumerate(areas):
        if size < 0:
            inside = (other for _, other in outer if _contains(rings[other], _pixel_left(rings[index])))
            polygons[next(inside)].append(rings[index])
    return list(polygons.values())


def _pixel_left(ring: Ring) -> tuple[float, float]:
    """Returns the centre of a pixel on the left of the first edge, which is in the hole."""
    (x, y), (dx, dy) = ring[0].tolist(), np.sign(ring[1] - ring[0]).tolist()
    return x + (dx + dy) / 2, y + (dy - dx) / 2


def _contains(ring: Ring, point: tuple[float, float]) -> bool:
    (x, y), onward = ring.T, np.roll(ring[:, 1], -1)
    crossed = (x > point[0]) & ((y > point[1]) != (onward > point[1]))
    return int(crossed.sum()) % 2 == 1
