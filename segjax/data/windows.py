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
