"""An image at several resolutions, of which windows are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from absl import logging

from segjax.errors import InputError

# Largest relative difference between the factors of rows and columns, in addition to rounding to pixels.
TOLERANCE = 0.02


class Level(Protocol):
    """An image at one resolution; several threads may read from it at the same time."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(H, W, C)`."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels."""

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window [height, width, C] inside the image.

        Raises:
          InputError: if its pixels are damaged.
        """


class Pyramid(NamedTuple):
    """An image at several resolutions.

    Attributes:
      path: the file, or the folder of a Zarr.
      levels: from the finest to the coarsest.
      pixel_size: side of a pixel of the finest level in micrometres, None if the file states none.
      close: closes the file.
    """

    path: Path
    levels: tuple[Level, ...]
    pixel_size: float | None
    close: Callable[[], None]

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of the finest level."""
        return self.levels[0].shape


def consistent_levels(path: Path, levels: Sequence[Level]) -> tuple[Level, ...]:
    """Returns the levels that are smaller copies of the first, from fine to coarse; warns about others."""
    first, usable = levels[0], [levels[0]]
    for number, level in enumerate(levels[1:], start=1):
        down, across = (fine / coarse for fine, coarse in zip(first.shape[:2], level.shape[:2], strict=True))
        slack = TOLERANCE + 1 / min(level.shape[:2])
        fits = math.isclose(down, across, rel_tol=slack) and level.shape[2] == first.shape[2]
        if fits and down > 1 and level.shape[0] < usable[-1].shape[0]:
            usable.append(level)
        else:
            logging.warning(
                "%s states that level %d of %d x %d pixels is a smaller copy of its image of %d x %d pixels;"
                " it is not used",
                *(path, number, *level.shape[:2], *first.shape[:2]),
            )
    return tuple(usable)


def check_window(level: Level, top: int, left: int, height: int, width: int) -> None:
    """Raises `ValueError` for a window that is not inside a level."""
    if not (0 <= top <= top + height <= level.shape[0] and 0 <= left <= left + width <= level.shape[1]):
        raise ValueError(f"the window {top, left, height, width} is not inside an image of {level.shape}")


def damaged(path: Path, top: int, left: int, error: Exception) -> InputError:
    """Returns the error of a part of an image that cannot be decoded."""
    reason = str(error).strip() or type(error).__name__
    return InputError(
        f"{path} cannot be read at row {top}, column {left} ({reason}); copy the file again from its source"
    )
