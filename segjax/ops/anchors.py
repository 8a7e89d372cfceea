"""Anchors: the boxes that a region proposal network starts from, a few at every place of a feature map."""

from collections.abc import Sequence

import numpy as np


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """The anchors of one place, around the origin.

    Args:
      sizes: square roots of the areas, pixels.
      ratios: of height to width.

    Returns:
      [A, 4] float32, whole pixels, A = len(ratios) * len(sizes), ratio by ratio.

    References:
      torchvision.models.detection.anchor_utils.AnchorGenerator, whose rounding and order are kept.
    """
    heights = np.sqrt(np.asarray(ratios, np.float32))
    widths = 1 / heights
    scales = np.asarray(sizes, np.float32)
    width = (widths[:, None] * scales[None, :]).reshape(-1)
    height = (heights[:, None] * scales[None, :]).reshape(-1)
    return np.round(np.stack([-width, -height, width, height], axis=1) / 2)


def grid_anchors(cells: np.ndarray, *, shape: tuple[int, int], strides: tuple[int, int]) -> np.ndarray:
    """The anchors of every place of a feature map.

    Args:
      cells: [A, 4] float, from `cell_anchors`.
      shape: `(height, width)` of the feature map.
      strides: pixels of the image for one place, down and along.

    Returns:
      [height * width * A, 4] float32, pixels of the image, row by row, the anchors of a place together. The
      first place is the corner of the image, not half a stride inside: as in torchvision.
    """
    y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, strides, strict=True)), indexing="ij")
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return (shifts + cells[None]).reshape(-1, 4).astype(np.float32)


def pyramid_anchors(
    shapes: Sequence[tuple[int, int]],
    *,
    image_shape: tuple[int, int],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
) -> list[np.ndarray]:
    """The anchors of every map of a pyramid.

    Args:
      shapes: `(height, width)` of each map.
      image_shape: of the image, padding included: the strides follow from it.
      sizes: of the anchors of each map.
      ratios: of height to width, the same for all maps.

    Returns:
      For each map [height * width * A, 4] float32.
    """
    return [
        grid_anchors(
            cell_anchors(of_map, ratios),
            shape=shape,
            strides=(image_shape[0] // shape[0], image_shape[1] // shape[1]),
        )
        for shape, of_map in zip(shapes, sizes, strict=True)
    ]
