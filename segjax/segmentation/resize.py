"""Resizes a segmentation, from the resolution of a network to that of the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segjax.segmentation.record import Segmentation


def resize_segmentation(segmentation: Segmentation, shape: tuple[int, int]) -> Segmentation:
    """Resizes a segmentation; centres of pixels are at half-integers.

    Outlines are interpolated linearly, see `resize_label_map`. Instances without a pixel in the result are
    dropped.

    Args:
      segmentation: the segmentation of [h, w] pixels.
      shape: `(H, W)` of the result.

    Returns:
      The segmentation of [H, W] pixels, with the same classes and scores.
    """
    if segmentation.shape == shape:
        return segmentation
    labels = resize_label_map(segmentation.labels, shape)
    ids = np.unique(labels[labels > 0])
    return Segmentation.from_labels(
        labels,
        classes=segmentation.classes[ids - 1],
        scores=segmentation.scores[ids - 1],
        semantic=resize_label_map(segmentation.semantic, shape),
    )


def resize_label_map(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resizes a map of ids or classes; centres of pixels are at half-integers.

    Each pixel gets the id with the largest weight in a linear interpolation. Equal weights, which are common
    at half the size, are decided alternately. Instances therefore stay where linear interpolation has them in
    the image, and neither grow nor shrink.

    Args:
      labels: [h, w] integer, `IGNORE` allowed.
      shape: `(H, W)` of the result.

    Returns:
      [H, W], of the dtype of `labels`.
    """
    return _vote(labels, *map(_neighbours, labels.shape, shape))


def resize_window(
    labels: np.ndarray,
    corner: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    window: tuple[slice, slice],
) -> np.ndarray:
    """Returns a window of the result of `resize_label_map` for a map of which only a part is known.

    Args:
      labels: [h, w] integer, the known part; it contains the neighbours of the window's pixels.
      corner: row and column of the first pixel of the part in the full map.
      sizes: `(H, W)` of the full map, and of its result.
      window: rows and columns of the window in the result.

    Returns:
      The pixels of the window, of the dtype of `labels`.
    """
    axes = []
    for number in range(2):
        axis = _neighbours(sizes[0][number], sizes[1][number]).part(window[number])
        last = labels.shape[number] - 1
        lower, upper = (np.clip(known - corner[number], 0, last) for known in (axis.lower, axis.upper))
        axes.append(axis._replace(lower=lower, upper=upper))
    return _vote(labels, *axes)


class _Axis(NamedTuple):
    """The two pixels beside each pixel of the result along an axis, and the weight of the second.

    The pixels of the result are counted from `start`.
    """

    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray
    start: int = 0

    def part(self, window: slice) -> _Axis:
        return _Axis(self.lower[window], self.upper[window], self.weight[window], window.start)


def _vote(labels: np.ndarray, down: _Axis, across: _Axis) -> np.ndarray:
    """Gives each pixel of the result the id with the largest weight."""
    corners = [
        labels[np.ix_(rows, columns)]
        for rows in (down.lower, down.upper)
        for columns in (across.lower, across.upper)
    ]
    result = corners[0]
    # Nearly everywhere, all four agree.
    rows, columns = np.nonzero(np.logical_or.reduce([corner != result for corner in corners[1:]]))
    candidates = np.stack([corner[rows, columns] for corner in corners])
    y, x = down.weight[rows], across.weight[columns]
    weights = np.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x])
    votes = np.stack([(weights * (candidates == candidate)).sum(0) for candidate in candidates])
    first, last = votes.argmax(0), 3 - votes[::-1].argmax(0)
    winner = np.where((rows + down.start + columns + across.start) % 2 == 0, first, last)
    result[rows, columns] = np.take_along_axis(candidates, winner[None], 0)[0]
    return result


def _neighbours(old: int, new: int) -> _Axis:
    # Computed in integers, so that equal weights are exactly equal.
    position = (2 * np.arange(new) + 1) * old - new
    first, rest = np.divmod(position, 2 * new)
    return _Axis(np.clip(first, 0, old - 1), np.clip(first + 1, 0, old - 1), rest / (2 * new))
