"""Cuts an image of any size into windows of few sizes, and blends the maps predicted for them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from segjax.errors import InputError
from segjax.typing import Outputs

# Sides of windows for images smaller than `tile` are multiples of it, so that a network is compiled rarely.
STEP = 128
# A window is at least so many margins wide: the pixels that are used are then a quarter of it or more.
MIN_MARGINS = 4


@dataclasses.dataclass(frozen=True)
class Windows:
    """Square windows of an image.

    Attributes:
      tile: side of a window, pixels. It is rounded down to the stride, and is at least four margins.
      overlap: overlap of neighbouring windows, pixels; at least two margins are used.
      margin: width along the inner edges of a window whose outputs are not used, pixels.
      stride: windows start at its multiples; the network's stride, so that its layers pool the same pixels
        as in the full image.

    Raises:
      InputError: if a value is out of range, or the overlap leaves less than a stride of a window.
    """

    tile: int
    overlap: int
    margin: int = 0
    stride: int = 1

    def __post_init__(self) -> None:
        for name, least in (("tile", 1), ("overlap", 0), ("margin", 0), ("stride", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)} must be at least {least} pixels", field=name)
        if self.largest - self._overlap < self.stride:
            raise InputError(
                f"overlap={self.overlap} must be at least {self.stride} pixels smaller than the windows of"
                f" {self.largest} pixels: lower it, or set a larger tile than {self.tile}",
                field="overlap",
            )

    @property
    def largest(self) -> int:
        """The largest side of a window, a multiple of the stride."""
        least = -(-max(MIN_MARGINS * self.margin, 1) // self.stride)
        return max(self.tile // self.stride, least) * self.stride

    @property
    def _overlap(self) -> int:
        return max(self.overlap, 2 * self.margin)

    def side(self, shape: tuple[int, int]) -> int:
        """Returns the side of the windows for an image of `(H, W)` pixels.

        A jit-compiled network is compiled once for each side, so for few of them.
        """
        step = math.lcm(STEP, self.stride)
        return min(self.largest, -(-max(shape) // step) * step)

    def fit(self, image: np.ndarray) -> tuple[np.ndarray, int]:
        """Pads an image [H, W, C] by reflection until windows cover it; returns it and the windows' side."""
        height, width = image.shape[:2]
        side = self.side((height, width))
        # To the side of a window and any number of strides.
        padding = [(0, max(side - length, -(length - side) % self.stride, 0)) for length in (height, width)]
        # `symmetric` also pads images of a single row or column.
        return np.pad(image, [*padding, (0, 0)], mode="symmetric"), side

    def starts(self, length: int, side: int) -> list[int]:
        """Returns where windows start along an axis of a padded image: evenly spaced, up to the stride."""
        strides = (length - side) // self.stride
        if strides <= 0:
            return [0]
        gaps = -(-strides // ((side - self._overlap) // self.stride))
        return [index * strides // gaps * self.stride for index in range(gaps + 1)]

    def weights(self, length: int, side: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the start of each window along an axis of a padded image, and its weights [side] float32.

        The weights are 0 in the margins, rise linearly over the rest of the overlap with a neighbour, and
        are 1 elsewhere, also at the border of the image. Their sum is positive at every pixel.
        """
        starts = self.starts(length, side)
        # Distances of the pixels from the first edge of a window; the other edge is the mirror image.
        distance = np.arange(side, dtype=np.float32) + 0.5 - self.margin
        gaps = np.diff(starts)
        for index, start in enumerate(starts):
            weights = np.ones(side, np.float32)
            if index > 0:
                weights = np.minimum(weights, self._ramp(distance, side - gaps[index - 1]))
            if index < len(gaps):
                weights = np.minimum(weights, self._ramp(distance, side - gaps[index])[::-1])
            yield start, weights

    def _ramp(self, distance: np.ndarray, overlap: int) -> np.ndarray:
        return np.clip(distance / max(overlap - 2 * self.margin, 1), 0, 1)


def predict_tiled(
    predict: Callable[[np.ndarray], Outputs], image: np.ndarray, windows: Windows
) -> dict[str, np.ndarray]:
    """Predicts maps window by window and blends them where windows overlap.

    The result is that of a single window, up to rounding, if outputs depend only on pixels within
    `windows.margin`, as `segjax.models.margin` computes it, and if `windows.stride` is the network's. Only
    nearer to the lower and the right border of the image than the margin, results may differ, because
    images are padded there to different sizes.

    Networks without norm, or with `weight`, `layer` or `frozen_batch`, have this guarantee. The statistics of
    `group` are those of a window, so its maps are approximately those of a single window. The windows should
    then be as large as the patches of the training, or larger.

    Args:
      predict: `images [1, S, S, C] -> outputs`, each leading with 1, S, S.
      image: [H, W, C] float32. If it is smaller than a window, it is padded by reflection.
      windows: size and overlap of the windows.

    Returns:
      The outputs of the full image, [H, W, ...] float32.
    """
    height, width = image.shape[:2]
    padded, side = windows.fit(image)
    sums: dict[str, np.ndarray] = {}
    total = np.zeros(padded.shape[:2], np.float32)
    axes = (windows.weights(length, side) for length in padded.shape[:2])
    for (top, rows), (left, columns) in itertools.product(*axes):
        window = (slice(top, top + side), slice(left, left + side))
        weights = rows[:, None] * columns
        total[window] += weights
        for name, values in predict(padded[window][None]).items():
            values = np.asarray(values[0], np.float32)
            if name not in sums:
                sums[name] = np.zeros((*padded.shape[:2], *values.shape[2:]), np.float32)
            sums[name][window] += _expand(weights, values.ndim) * values
    return {name: (values / _expand(total, values.ndim))[:height, :width] for name, values in sums.items()}


def _expand(weights: np.ndarray, ndim: int) -> np.ndarray:
    """Appends axes of size 1, up to `ndim`."""
    return weights.reshape(*weights.shape, *(1,) * (ndim - 2))
