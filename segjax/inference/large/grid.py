"""The tiles of a large image."""

from __future__ import annotations

import dataclasses
import itertools
from typing import NamedTuple

# Side of a TIFF tile, pixels. Sides of cores are multiples of it, so that each chunk is in one core.
CHUNK = 256


class Box(NamedTuple):
    """A rectangle of pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """`(height, width)`."""
        return self.bottom - self.top, self.right - self.left

    def within(self, other: Box) -> tuple[slice, slice]:
        """Returns the slices that cut this box out of the pixels [h, w] of `other`, which contains it."""
        return (
            slice(self.top - other.top, self.bottom - other.top),
            slice(self.left - other.left, self.right - other.left),
        )

    def common(self, other: Box) -> Box:
        """Returns the intersection; its shape is not positive if there is none."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def meets(self, other: Box) -> bool:
        """Returns whether two boxes have a pixel in common."""
        return min(self.common(other).shape) > 0


class Tile(NamedTuple):
    """A tile of a grid.

    Attributes:
      row: its row in the grid.
      column: its column in the grid.
      core: the pixels that no other tile has in its core.
      window: the pixels that are segmented: the core, and a halo around it.
    """

    row: int
    column: int
    core: Box
    window: Box


@dataclasses.dataclass(frozen=True)
class Grid:
    """Tiles whose cores cover an image without overlap.

    Attributes:
      shape: `(H, W)` of the image.
      core: side of a core, pixels, a multiple of `CHUNK`.
      halo: width of the window around its core, pixels; windows end at the edge of the image.
    """

    shape: tuple[int, int]
    core: int
    halo: int

    def tiles(self) -> list[Tile]:
        """Returns all tiles, row by row."""
        rows, columns = (range(-(-length // self.core)) for length in self.shape)
        return [self.tile(row, column) for row, column in itertools.product(rows, columns)]

    def tile(self, row: int, column: int) -> Tile:
        """Returns the tile in a row and a column of the grid."""
        top, left = row * self.core, column * self.core
        core = Box(top, left, min(top + self.core, self.shape[0]), min(left + self.core, self.shape[1]))
        window = Box(
            max(core.top - self.halo, 0),
            max(core.left - self.halo, 0),
            min(core.bottom + self.halo, self.shape[0]),
            min(core.right + self.halo, self.shape[1]),
        )
        return Tile(row, column, core, window)
