"""A level at another resolution, resized window by window."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segjax.data.readers.lazy.pyramid import Level, check_window

# Radius of the anti-aliasing filter, in standard deviations, as in scikit-image.
TRUNCATE = 4.0


class Rescaled:
    """A level resized by linear interpolation, see `Level`; its windows are those of `resize_image`.

    Args:
      level: the level.
      factor: scale factor of each side.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, level: Level, factor: float) -> None:
        self._level = level
        height, width, channels = level.shape
        self.shape = (max(1, round(factor * height)), max(1, round(factor * width)), channels)
        self._shrinks = factor < 1

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window, see `Level`."""
        check_window(self, top, left, height, width)
        rows, columns = (
            _Axis(old, new, start, length, self._shrinks)
            for old, new, start, length in zip(
                self._level.shape, self.shape, (top, left), (height, width), strict=False
            )
        )
        pixels = self._level.read(rows.first, columns.first, rows.length, columns.length)
        padding = [rows.padding, columns.padding, (0, 0)]
        pixels = np.pad(pixels.astype(np.float32), padding, mode="reflect")
        if self._shrinks:
            sigmas = (rows.sigma, columns.sigma, 0)
            pixels = ndimage.gaussian_filter(pixels, sigmas, truncate=TRUNCATE, mode="mirror")
        lower, upper, weight = rows.interpolation
        weight = weight[:, None, None]
        pixels = pixels[lower] * (1 - weight) + pixels[upper] * weight
        left_pixels, right_pixels, weight = columns.interpolation
        weight = weight[:, None]
        return pixels[:, left_pixels] * (1 - weight) + pixels[:, right_pixels] * weight


class _Axis:
    """The pixels along an axis that a window of a resized image depends on.

    Args:
      old: length of the axis before resizing, pixels.
      new: length of the axis after resizing.
      start: first pixel of the window in the resized image.
      length: length of the window in the resized image.
      shrinks: whether the image is filtered before it is resized.
    """

    def __init__(self, old: int, new: int, start: int, length: int, shrinks: bool) -> None:
        # Centres of pixels are at half-integers.
        position = (np.arange(start, start + length) + 0.5) * (old / new) - 0.5
        self.sigma = max(0.0, (old / new - 1) / 2) if shrinks else 0.0
        radius = int(TRUNCATE * self.sigma + 0.5)
        low, high = int(np.floor(position[0])) - radius, int(np.floor(position[-1])) + 1 + radius
        self.first, last = max(low, 0), min(high, old - 1)
        self.length = last + 1 - self.first
        self.padding = (self.first - low, high - last)
        floor = np.floor(position)
        lower = floor.astype(int) - low
        self.interpolation = lower, lower + 1, (position - floor).astype(np.float32)
