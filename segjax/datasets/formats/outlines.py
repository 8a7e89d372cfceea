"""Rasterisation of outlines.

Tools differ in the meaning of a coordinate. In COCO, QuPath and ImageJ pixel edges lie at integers, so an
outline along the edges of pixels gives back these pixels, and two cells that share an edge share no pixel:
`fill` takes the pixels whose centre is inside. LabelMe draws through pixel centres at integers, and the
pixels under the line belong to the shape, see `labelme`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from segjax.datasets.formats.annotation import RawAnnotation, rasterize_instances, read_valid
from segjax.datasets.formats.documents import JsonField
from segjax.errors import InputError
from segjax.segmentation import Cutout


def fill(rings: Sequence[np.ndarray], shape: tuple[int, int]) -> Cutout:
    """Fills closed lines by the even-odd rule: an outline, its holes, islands in the holes.

    A pixel is inside if its centre is. A centre on the line is inside if the area is to the right of or below
    it, so exactly one of two areas that share a line has it.

    Args:
      rings: each [V, 2] float, `(x, y)` with pixel edges at integers; the last vertex is joined to the first.
        Parts outside the image are cut off.
      shape: `(H, W)`.

    Returns:
      The mask.
    """
    vertices = np.concatenate([np.zeros((0, 2)), *rings])
    if not len(vertices):
        return Cutout.of(np.zeros((0, 0), bool))
    limits = np.array([shape[1], shape[0]])
    low = np.clip(np.floor(vertices.min(axis=0)), 0, limits).astype(int)
    high = np.clip(np.ceil(vertices.max(axis=0)), low, limits).astype(int)
    width, height = high - low
    flips = np.zeros((height, width + 1), np.int64)
    for ring in rings:
        row, column = _crossings(np.asarray(ring, np.float64) - low, height, width)
        np.add.at(flips, (row, column), 1)
    return Cutout.of(np.cumsum(flips, axis=1)[:, :width] % 2 == 1, top=int(low[1]), left=int(low[0]))


def _crossings(ring: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns where a closed line crosses the rows of centres: the row, and the first column right of it."""
    start, end = ring, np.roll(ring, -1, axis=0)
    # Every edge goes down, so that neighbours that share an edge compute the same crossings.
    swapped = (start[:, 1] > end[:, 1])[:, None]
    above, below = np.where(swapped, end, start), np.where(swapped, start, end)
    first = np.clip(np.ceil(above[:, 1] - 0.5), 0, height).astype(int)
    count = np.clip(np.ceil(below[:, 1] - 0.5), 0, height).astype(int) - first
    edge = np.repeat(np.arange(len(ring)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    above, below = above[edge], below[edge]
    slope = (below[:, 0] - above[:, 0]) / (below[:, 1] - above[:, 1])
    x = above[:, 0] + (row + 0.5 - above[:, 1]) * slope
    return row, np.clip(np.ceil(x - 0.5), 0, width).astype(int)


def fill_ellipse(box: np.ndarray, shape: tuple[int, int]) -> Cutout:
    """Fills the ellipse in a box, with pixel edges at integers: the pixels whose centre is inside.

    Args:
      box: [2, 2] float, `(x, y)` of its top left and bottom right corner.
      shape: `(H, W)`.

    Returns:
      The mask.
    """
    (left, top), (right, bottom) = box.tolist()
    x0, x1 = (int(np.clip(f(x), 0, shape[1])) for f, x in ((np.floor, left), (np.ceil, right)))
    y0, y1 = (int(np.clip(f(y), 0, shape[0])) for f, y in ((np.floor, top), (np.ceil, bottom)))
    if right <= left or bottom <= top:
        return Cutout.of(np.zeros((0, 0), bool))
    x = (np.arange(x0, x1) + 0.5 - (left + right) / 2) / ((right - left) / 2)
    y = (np.arange(y0, y1) + 0.5 - (top + bottom) / 2) / ((bottom - top) / 2)
    return Cutout.of(y[:, None] ** 2 + x[None] ** 2 <= 1, top=y0, left=x0)


def union(cutouts: Sequence[Cutout]) -> Cutout:
    """Returns the union of the parts of one instance."""
    parts = [cutout for cutout in cutouts if cutout.mask.size]
    if len(parts) < 2:
        return parts[0] if parts else Cutout.of(np.zeros((0, 0), bool))
    top, left = min(part.top for part in parts), min(part.left for part in parts)
    bottom = max(part.top + part.mask.shape[0] for part in parts)
    right = max(part.left + part.mask.shape[1] for part in parts)
    mask = np.zeros((bottom - top, right - left), bool)
    for part in parts:
        mask[Cutout(part.top - top, part.left - left, part.mask).window] |= part.mask
    return Cutout(top, left, mask)


# In pixels. No cell has such an outline, and every row that a line crosses takes memory.
MAX_LENGTH = 2**22
# Fraction of outlines that may lie outside of their image.
MAX_OUTSIDE = 0.25


def box_of(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the bounding box [4] of closed lines [V, 2], `(x0, y0, x1, y1)`."""
    points = np.concatenate(rings)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


class Outline(Protocol):
    """The outline of one instance."""

    @property
    def rings(self) -> Sequence[np.ndarray]:
        """Closed lines [V, 2], `(x, y)`."""

    @property
    def class_index(self) -> int:
        """Class of the instance."""

    def rasterize(self, shape: tuple[int, int]) -> Cutout:
        """Returns the mask in an image `(H, W)`; raises an `InputError` if the outline is far outside."""


def rasterize_outlines(
    outlines: Sequence[Outline], shape: tuple[int, int], path: Path, *, invalid: tuple[str, ...]
) -> RawAnnotation:
    """Makes an annotation of outlines; where two overlap the smaller is on top.

    Args:
      outlines: one for each instance.
      shape: `(H, W)` of the image.
      path: the file of the annotation.
      invalid: what is wrong with each entry of the file that is not among the outlines.

    Raises:
      InputError: if too many outlines lie outside the image, see `check_most_inside`.
    """
    check_most_inside([box_of(outline.rings) for outline in outlines], shape, str(path))
    masks, outside = read_valid(outlines, lambda outline: (outline.class_index, outline.rasterize(shape)))
    return rasterize_instances(
        [mask for _, mask in masks],
        shape,
        classes=[index for index, _ in masks],
        files=(str(path),),
        invalid=invalid + outside,
    )


def check_most_inside(boxes: Sequence[np.ndarray], shape: tuple[int, int], where: str) -> None:
    """Refuses outlines that were drawn on an image of another size or origin.

    Args:
      boxes: bounding boxes [4] of the outlines, `(x0, y0, x1, y1)` in pixels; one without area does not
        count.
      shape: `(H, W)` of the image.
      where: the file, for errors.

    Raises:
      InputError: if more than `MAX_OUTSIDE` of the boxes lie outside by more than half of their area.
    """
    low, high = np.split(np.asarray(boxes, np.float64).reshape(-1, 4), 2, axis=1)
    has_area = (high > low).all(axis=1)
    low, high = low[has_area], high[has_area]
    clipped = [np.clip(corner, 0, [shape[1], shape[0]]) for corner in (low, high)]
    inside = np.prod(clipped[1] - clipped[0], axis=1) / np.prod(high - low, axis=1)
    outside = int((inside < 0.5).sum())
    if outside > MAX_OUTSIDE * len(low):
        raise InputError(
            f"{where}: {outside} of {len(low)} outlines lie outside the image of {shape[0]} x {shape[1]}"
            " pixels; export them from this image, at its full resolution and without an offset",
            kind="size_mismatch",
        )


def check_inside(
    points: np.ndarray, shape: tuple[int, int], margin: float, entry: JsonField, name: str
) -> None:
    """Refuses an outline that cannot have been drawn on this image.

    Args:
      points: [V, 2] float, `(x, y)`.
      shape: `(H, W)`.
      margin: how far outside the image a vertex may lie, in pixels.
      entry: the object that holds the outline, for errors.
      name: the field of `entry`, for errors.

    Raises:
      InputError: if a vertex is further out, or the line is longer than `MAX_LENGTH`.
    """
    outside = (points < -margin) | (points > np.array([shape[1], shape[0]]) + margin)
    if outside.any():
        x, y = points[outside.any(axis=1)][0]
        raise entry.error(name, f"has ({x:g}, {y:g}), outside the image of {shape[0]} x {shape[1]} pixels")
    length = np.abs(np.diff(points, axis=0)).sum()
    if length > MAX_LENGTH:
        raise entry.error(name, f"draws a line of {length:.0f} pixels, more than {MAX_LENGTH}")
