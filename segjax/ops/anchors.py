"""Anchor boxes of a region proposal network, at every position of one or more feature maps."""

from collections.abc import Sequence

import numpy as np


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Returns the anchors of one position, centred on the origin.

    Args:
      sizes: square roots of the anchor areas, pixels.
      ratios: height / width of the anchors.

    Returns:
      [A, 4] float32, rounded to integers, A = len(ratios) * len(sizes), ordered by ratio, then size.

    References:
      torchvision.models.detection.anchor_utils.AnchorGenerator, with the same rounding and order.
    """
    heights = np.sqrt(np.asarray(ratios, np.float32))
    widths = 1 / heights
    scales = np.asarray(sizes, np.float32)
    width = (widths[:, None] * scales[None, :]).reshape(-1)
    height = (heights[:, None] * scales[None, :]).reshape(-1)
    return np.round(np.stack([-width, -height, width, height], axis=1) / 2)


def grid_anchors(cells: np.ndarray, *, shape: tuple[int, int], strides: tuple[int, int]) -> np.ndarray:
    """Returns the anchors of every position of a feature map.

    Args:
      cells: [A, 4] float, from `cell_anchors`.
      shape: `(height, width)` of the feature map.
      strides: image pixels per feature map position, `(vertical, horizontal)`.

    Returns:
      [height * width * A, 4] float32, image pixels, in row-major order with the anchors of a position
      contiguous. As in torchvision, the first position is the image corner, not half a stride inside.
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
    """Returns the anchors of every level of a feature pyramid.

    Args:
      shapes: `(height, width)` of each feature map.
      image_shape: `(height, width)` of the image including padding; determines the strides.
      sizes: anchor sizes of each feature map, pixels.
      ratios: height / width of the anchors, the same for all maps.

    Returns:
      One [height * width * A, 4] float32 array per map.
    """
    return [
        grid_anchors(
            cell_anchors(map_sizes, ratios),
            shape=shape,
            strides=(image_shape[0] // shape[0], image_shape[1] // shape[1]),
        )
        for shape, map_sizes in zip(shapes, sizes, strict=True)
    ]
