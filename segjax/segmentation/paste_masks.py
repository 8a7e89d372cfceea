"""Pastes detections into a label map on the host; the best-scoring instance wins each pixel."""

from __future__ import annotations

import numpy as np

# Pixels processed at once: bounds the memory where hundreds of boxes overlap.
CHUNK = 2**22


def paste_masks(
    boxes: np.ndarray,
    masks: np.ndarray | None,
    shape: tuple[int, int],
    *,
    threshold: float = 0.5,
    whole_pixels: bool = False,
) -> np.ndarray:
    """Paints instances into a label map; earlier ones overwrite later ones.

    The cost grows with the total area of the boxes, not with image area times the number of instances.

    Args:
      boxes: [N, 4] float, pixels, best first.
      masks: [N, M, M] float, probabilities inside the boxes, interpolated bilinearly and 0 beyond the rim;
        None to paint the ellipse that fits each box.
      shape: `(H, W)`.
      threshold: a pixel belongs to an instance whose probability reaches it.
      whole_pixels: whether the boxes, grown by one pixel of the mask, are first cut to whole pixels, as
        torchvision does; it moves outlines by up to a pixel.

    Returns:
      [H, W] int32, i + 1 where box i won, else 0.

    References:
      torchvision.models.detection.roi_heads.paste_masks_in_image.
    """
    labels = np.zeros(shape, np.int32)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    if masks is not None:
        size = masks.shape[-1] + 2
        masks = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
        boxes = _grown(boxes, size / (size - 2))
        if whole_pixels:
            boxes = np.trunc(boxes) + np.array([0, 0, 1, 1], np.float32)
    first, last = _pixels(boxes, shape)
    areas = np.prod(last - first, axis=1)
    # Worst first, so that better instances overwrite.
    for part in reversed(_chunks(areas)):
        index, rows, columns = _coordinates(first[part], last[part], part)
        u = _relative(columns, boxes[index, 0], boxes[index, 2])
        v = _relative(rows, boxes[index, 1], boxes[index, 3])
        if masks is None:
            inside = (2 * u - 1) ** 2 + (2 * v - 1) ** 2 <= 1
        else:
            inside = _interpolate(masks, index, v, u) >= threshold
        labels[rows[inside], columns[inside]] = index[inside] + 1
    return labels


def _grown(boxes: np.ndarray, factor: float) -> np.ndarray:
    centres, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    return np.concatenate([centres - halves, centres + halves], axis=1)


def _pixels(boxes: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns first and one past last pixel whose centres lie in each box, [N, 2] as (row, column)."""
    limits = np.array(shape)
    first = np.clip(np.ceil(boxes[:, [1, 0]] - 0.5), 0, limits).astype(int)
    last = np.clip(np.ceil(boxes[:, [3, 2]] - 0.5), 0, limits).astype(int)
    return first, np.maximum(last, first)


def _chunks(areas: np.ndarray) -> list[np.ndarray]:
    """Splits box indices into groups of about `CHUNK` pixels in total."""
    if not len(areas):
        return []
    group = np.cumsum(areas) // CHUNK
    return np.split(np.arange(len(areas)), np.flatnonzero(np.diff(group)) + 1)


def _coordinates(
    first: np.ndarray, last: np.ndarray, part: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns box index, row and column of every pixel of every box, worst box first."""
    order = np.arange(len(part))[::-1]
    sides = (last - first)[order]
    areas = np.prod(sides, axis=1)
    owner = np.repeat(order, areas)
    within = np.arange(areas.sum()) - np.repeat(np.cumsum(areas) - areas, areas)
    widths = np.repeat(np.maximum(sides[:, 1], 1), areas)
    rows, columns = np.divmod(within, widths)
    return part[owner], rows + first[owner, 0], columns + first[owner, 1]


def _relative(pixels: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns pixel centres relative to the box: 0 at `low`, 1 at `high`."""
    return (pixels + 0.5 - low) / np.maximum(high - low, 1e-6)


def _interpolate(masks: np.ndarray, index: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    size = masks.shape[-1]
    y, x = (np.clip(place * size - 0.5, 0, size - 1) for place in (v, u))
    top, left = y.astype(int), x.astype(int)
    bottom, right = np.minimum(top + 1, size - 1), np.minimum(left + 1, size - 1)
    down, along = y - top, x - left
    upper = masks[index, top, left] * (1 - along) + masks[index, top, right] * along
    lower = masks[index, bottom, left] * (1 - along) + masks[index, bottom, right] * along
    return upper * (1 - down) + lower * down
