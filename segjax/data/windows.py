"""Cropping and padding of boxes for image windows."""

import numpy as np


def boxes_in_window(boxes: np.ndarray, *, top: int, left: int, size: tuple[float, float]) -> np.ndarray:
    """Returns the boxes with more than half their area in a window, clipped to it.

    Args:
      boxes: [P, 4] float, pixels of the image.
      top: first row of the window.
      left: first column.
      size: `(height, width)` of the window.

    Returns:
      [Q, 4] float, pixels of the window, in the same order.
    """
    moved = boxes - np.array([left, top, left, top], np.float32)
    clipped = np.clip(moved, 0, np.array([size[1], size[0], size[1], size[0]], np.float32))
    inside = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1)
    return clipped[inside > 0.5 * np.prod(moved[:, 2:] - moved[:, :2], axis=1)]


def pad_boxes(boxes: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [Q, 4], at most `capacity` of them, padded with zeros: [capacity, 4] float32; which are, bool."""
    padded = np.zeros((capacity, 4), np.float32)
    padded[: len(boxes)] = boxes
    return padded, np.arange(capacity) < len(boxes)
