"""A level with the channels that a method expects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.data.channels import match_channels, select_channels
from segjax.data.readers.image import as_native
from segjax.data.readers.lazy.pyramid import Level


class Matched:
    """A level with the channels that a method expects, see `Level`; its dtypes are those of `read_image`.

    Args:
      level: the level.
      selected: the channels to use, in this order; all if empty.
      channels: number of channels that the method expects; None for any, see `match_channels`.
      name: name of the image, for errors.
    """

    def __init__(self, level: Level, selected: Sequence[int], channels: int | None, name: str) -> None:
        self._level, self._selected, self._channels, self._name = level, selected, channels, name
        # `as_native` makes wider integers uint16 only if their values fit: all windows are float32 instead.
        is_native = level.dtype.kind == "b" or level.dtype in (np.uint8, np.uint16)
        white = np.ones((1, 1, level.shape[2]), level.dtype)
        if level.dtype.kind in "ui":
            white *= np.iinfo(level.dtype).max
        self.dtype = as_native(white, name).dtype if is_native else np.dtype(np.float32)
        self.shape = (*level.shape[:2], self._matched(white).shape[2])

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window, see `Level`."""
        return self._matched(self._level.read(top, left, height, width))

    def _matched(self, window: np.ndarray) -> np.ndarray:
        pixels = as_native(window, self._name)
        if self._selected:
            pixels = select_channels(pixels, self._selected, name=self._name)
        return match_channels(pixels, self._channels, name=self._name).astype(self.dtype, copy=False)
