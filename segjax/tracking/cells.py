"""The measurements for tracking: centroids and areas of the cells of a frame, and overlaps of two frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from segjax.segmentation.masks import median_diameter


class FrameCells(NamedTuple):
    """The N cells of a label image with the ids 1 to N.

    Attributes:
      centroids: [N, 2] float64 `(y, x)`, pixels.
      areas: [N] float64, pixels.
    """

    centroids: np.ndarray
    areas: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray) -> FrameCells:
        """Measures the cells of labels [H, W] with the ids 1 to N."""
        y, x = np.nonzero(labels)
        ids = labels[y, x] - 1
        count = int(labels.max(initial=0))
        areas = np.bincount(ids, minlength=count).astype(float)
        sums = [np.bincount(ids, position, count) for position in (y, x)]
        return cls(np.column_stack(sums) / areas[:, None], areas)


def overlap(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cells of two label images that overlap.

    Args:
      before: [H, W] int, the ids 1 to N, 0 for background.
      after: [H, W] int, the ids 1 to M.

    Returns:
      [P, 2] int64, the indices, from 0, of both cells of each pair; and [P] float64, the intersection over
      union of each pair.

    >>> pairs, ious = overlap(np.array([[1, 1, 2, 0]]), np.array([[0, 1, 1, 1]]))
    >>> pairs.tolist(), ious.tolist()
    ([[0, 0], [1, 0]], [0.25, 0.3333333333333333])
    """
    both = (before > 0) & (after > 0)
    count = int(after.max(initial=0)) + 1
    codes, shared = np.unique(before[both].astype(np.int64) * count + after[both], return_counts=True)
    first, second = codes // count, codes % count
    areas = [np.bincount(labels.ravel()) for labels in (before, after)]
    ious = shared / (areas[0][first] + areas[1][second] - shared)
    return np.column_stack([first, second]) - 1, ious


def shift_labels(labels: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """Moves labels [H, W] by a number of rows and columns; pixels that enter the frame are background."""
    moved = np.zeros_like(labels)
    to, origin = (
        tuple(
            slice(max(sign * step, 0), length + min(sign * step, 0))
            for step, length in zip(shift, labels.shape, strict=True)
        )
        for sign in (1, -1)
    )
    moved[to] = labels[origin]
    return moved


def near(points: np.ndarray, others: np.ndarray, radius: float) -> np.ndarray:
    """Returns the pairs of points [N, 2] and [M, 2] at most `radius` apart, as indices [P, 2] int64."""
    if not len(points) or not len(others):
        return np.zeros((0, 2), np.int64)
    neighbours = cKDTree(points).query_ball_tree(cKDTree(others), radius)
    counts = [len(indices) for indices in neighbours]
    columns = np.repeat(np.arange(len(points)), counts), np.concatenate(neighbours)
    return np.column_stack(columns).astype(np.int64)


def move_radius(areas: np.ndarray, max_move: float) -> float:
    """Returns how far cells of areas [N] move at most, pixels: `max_move` median diameters."""
    return max_move * float(np.nan_to_num(median_diameter(areas), nan=1.0))
