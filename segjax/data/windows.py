"""Square windows of an example, and the boxes in them."""

import numpy as np

from segjax.data.targets import TARGETS
from segjax.typing import IGNORE

# Fill values beyond the image border; the image itself is reflected.
FILL = {"labels": 0, "semantic": IGNORE} | dict.fromkeys(TARGETS, 0)


def cut_window(example: dict[str, np.ndarray], top: int, left: int, size: int) -> dict[str, np.ndarray]:
    """Cuts a square window, which may extend beyond the border, out of every map of an example."""
    rows, columns = np.arange(top, top + size), np.arange(left, left + size)
    height, width = example["labels"].shape
    outside = ((rows < 0) | (rows >= height))[:, None] | ((columns < 0) | (columns >= width))[None, :]
    index = np.ix_(_reflect(rows, height), _reflect(columns, width))
    window = {name: values[index] for name, values in example.items()}
    for name in FILL.keys() & window.keys():
        window[name][outside] = FILL[name]
    return window


def _reflect(positions: np.ndarray, size: int) -> np.ndarray:
    """Reflects positions into [0, size) about the centres of the outermost pixels."""
    period = max(2 * (size - 1), 1)
    folded = np.abs(positions) % period
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(positions)


def renumber(window: dict[str, np.ndarray], classes: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
    """Renumbers the instances of a window to 1..N in place.

    Of more than `capacity` instances, the smallest are removed and their pixels ignored.

    Args:
      window: maps with "labels" and "semantic".
      classes: [M] int32, classes of the instances 1..M of the image.
      capacity: N.

    Returns:
      Classes [N] int32 of the instances of the window, 0 for ids that are absent, and the number of instances
      that are removed.
    """
    ids, inverse, areas = np.unique(window["labels"], return_inverse=True, return_counts=True)
    present = np.flatnonzero(ids > 0)
    selected = present
    if len(present) > capacity:
        selected = np.sort(present[np.argsort(-areas[present], kind="stable")[:capacity]])
        window["semantic"][np.isin(window["labels"], ids[np.setdiff1d(present, selected)])] = IGNORE
    number = np.zeros(len(ids), np.int32)
    number[selected] = np.arange(1, len(selected) + 1)
    window["labels"] = number[inverse.reshape(window["labels"].shape)]
    own = np.zeros(capacity, np.int32)
    own[: len(selected)] = classes[ids[selected] - 1]
    return own, len(present) - len(selected)


def boxes_in_window(boxes: np.ndarray, *, top: int, left: int, size: tuple[float, float]) -> np.ndarray:
    """Returns the boxes with more than half their area in a window, clipped to it.

    Args:
      boxes: [P, 4] float, pixels of the image.
      top: first row of the window.
      left: first column of the window.
      size: `(height, width)` of the window.

    Returns:
      [Q, 4] float, pixels of the window, in the same order.
    """
    moved = boxes - np.array([left, top, left, top], np.float32)
    clipped = np.clip(moved, 0, np.array([size[1], size[0], size[1], size[0]], np.float32))
    inside = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1)
    return clipped[inside > 0.5 * np.prod(moved[:, 2:] - moved[:, :2], axis=1)]


def pad_boxes(boxes: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Pads at most `capacity` boxes [Q, 4] with zeros to [capacity, 4] float32; returns them and `valid`."""
    padded = np.zeros((capacity, 4), np.float32)
    padded[: len(boxes)] = boxes
    return padded, np.arange(capacity) < len(boxes)
