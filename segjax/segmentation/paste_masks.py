"""Pixels of detections, on the host: of masks inside boxes, or of the ellipses of boxes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segjax.segmentation.masks import Cutout


def paste_masks(
    boxes: np.ndarray, masks: np.ndarray | None, shape: tuple[int, int], *, threshold: float = 0.5
) -> Iterator[Cutout]:
    """Yields the pixels of each instance.

    The cost grows with the total area of the boxes, not with image area times the number of instances.

    Args:
      boxes: [N, 4] float, pixels.
      masks: [N, M, M] float, probabilities inside the boxes, interpolated bilinearly and 0 outside; None to
        paint the ellipse that fits each box.
      shape: `(H, W)`.
      threshold: minimum probability at which a pixel belongs to an instance.

    References:
      torchvision.models.detection.roi_heads.paste_masks_in_image, which first rounds the boxes to integer
      pixels; this moves outlines by up to a pixel, so it is left out here.
    """
    for index, box in enumerate(np.asarray(boxes, np.float32).reshape(-1, 4)):
        yield paste_mask(box, None if masks is None else masks[index], shape, threshold=threshold)


def paste_mask(
    box: np.ndarray, mask: np.ndarray | None, shape: tuple[int, int], *, threshold: float = 0.5
) -> Cutout:
    """Returns the pixels of one instance, see `paste_masks`."""
    box = np.asarray(box, np.float32)
    if mask is not None:
        size = mask.shape[-1] + 2
        mask = np.pad(mask, 1)
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * (size / (size - 2))
        box = np.concatenate([centre - half, centre + half])
    # First and one past the last pixel whose centre lies in the box, as (row, column).
    limits = np.ceil(box.reshape(2, 2)[:, ::-1] - 0.5)
    first, last = np.clip(limits, 0, shape).astype(int)
    last = np.maximum(last, first)
    rows, columns = slice(first[0], last[0]), slice(first[1], last[1])
    v = _relative(rows, box[1], box[3])[:, None]
    u = _relative(columns, box[0], box[2])[None, :]
    inside = (2 * u - 1) ** 2 + (2 * v - 1) ** 2 <= 1 if mask is None else _sample(mask, v, u) >= threshold
    return Cutout(rows.start, columns.start, inside)


def _relative(pixels: slice, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns pixel centres relative to the box: 0 at `low`, 1 at `high`."""
    return (np.arange(pixels.start, pixels.stop) + 0.5 - low) / np.maximum(high - low, 1e-6)


def _sample(mask: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Returns the mask [M, M] at relative rows [h, 1] and columns [1, w], interpolated bilinearly."""
    size = mask.shape[-1]
    y, x = (np.clip(position * size - 0.5, 0, size - 1) for position in (v, u))
    top, left = y.astype(int), x.astype(int)
    bottom, right = np.minimum(top + 1, size - 1), np.minimum(left + 1, size - 1)
    down, along = y - top, x - left
    upper = mask[top, left] * (1 - along) + mask[top, right] * along
    lower = mask[bottom, left] * (1 - along) + mask[bottom, right] * along
    return upper * (1 - down) + lower * down
