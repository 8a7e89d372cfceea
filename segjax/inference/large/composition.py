"""The joined cells of a large image, read in any window of it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segjax.inference.large.grid import Box, Grid, Tile
from segjax.inference.large.stitching import Stitched
from segjax.inference.large.store import StoredTile, TileStore

# Number of tiles in memory.
CACHED = 4


class Composed(NamedTuple):
    """The cells of a window.

    Attributes:
      labels: [h, w] int32, ids of the image, 0 for background.
      semantic: [h, w] uint8, class of each pixel.
    """

    labels: np.ndarray
    semantic: np.ndarray


class Composition:
    """The joined cells of an image; several threads may use it at the same time.

    Args:
      grid: all tiles of the image.
      tiles: the tiles that are segmented.
      store: the results of the tiles.
      stitched: the joined cells.
    """

    def __init__(self, grid: Grid, tiles: Sequence[Tile], store: TileStore, stitched: Stitched) -> None:
        self.grid, self.tiles, self.stitched = grid, tiles, stitched
        self._index = {(tile.row, tile.column): index for index, tile in enumerate(tiles)}
        self._lock = threading.Lock()
        self._read = functools.lru_cache(CACHED)(lambda index: store.read(tiles[index]))

    def tile(self, index: int) -> StoredTile | None:
        """Returns the result of a tile by its index among the segmented ones; None if it is not stored."""
        with self._lock:
            return self._read(index)

    def read(self, box: Box) -> Composed:
        """Returns the cells of a box of the image."""
        labels, semantic = np.zeros(box.shape, np.int32), np.zeros(box.shape, np.uint8)
        core = self.grid.core
        for row in range(box.top // core, -(-box.bottom // core)):
            for column in range(box.left // core, -(-box.right // core)):
                index = self._index.get((row, column))
                stored = None if index is None else self.tile(index)
                if index is not None and stored is not None:
                    part = self.tiles[index].core.common(box)
                    inside = part.within(self.tiles[index].window)
                    ids = np.append(np.int32(0), self.stitched.ids[index])
                    composed = ids[stored.labels[inside]]
                    is_dropped = (stored.labels[inside] > 0) & (composed == 0)
                    labels[part.within(box)] = composed
                    semantic[part.within(box)] = np.where(is_dropped, 0, stored.semantic[inside])
        return Composed(labels, semantic)
