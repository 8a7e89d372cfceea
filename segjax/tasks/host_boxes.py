"""Boxes on the host: on the device, every size of an image and number of boxes would be a program."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def boxes_from_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes of the instances of a label map, as `segjax.ops.boxes.boxes_from_labels`.

    Args:
      labels: [H, W] int, 0 is background; ids may have gaps.

    Returns:
      Boxes [N, 4] float32, pixels, and their ids [N] int.

    >>> boxes_from_labels(np.array([[0, 3, 3], [1, 0, 0]]))[0].tolist()
    [[0.0, 1.0, 1.0, 2.0], [1.0, 0.0, 3.0, 1.0]]
    """
    windows = enumerate(ndimage.find_objects(labels), start=1)
    boxes = {
        index: (window[1].start, window[0].start, window[1].stop, window[0].stop)
        for index, window in windows
        if window is not None
    }
    return np.array([*boxes.values()], np.float32).reshape(-1, 4), np.array([*boxes], int)


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the IoU [N, M] of boxes [N, 4] and [M, 4], as `segjax.ops.boxes.pairwise_iou`."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = np.maximum(high - low, 0).prod(-1)
    areas = [np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def centres_on(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns [N] bool: whether the centres of boxes [N, 4] lie on a mask [H, W]; nearest pixel outside."""
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(int)
    column, row = np.clip(centres, 0, np.array(mask.shape[::-1]) - 1).T
    return mask[row, column]
