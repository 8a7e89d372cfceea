"""The joined cells of a large image, read in any window of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from segjax.inference.large.grid import Box, Grid, Tile
from segjax.inference.large.stitching import Stitched
from segjax.inference.large.store import StoredTile, TileStore
from segjax.inference.ordered import num_threads

# Bytes of the tiles in memory, and those of a pixel of a tile.
MEMORY, PIXEL = 2**29, 5


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
        self._tiles = _Cache(lambda index: store.read(tiles[index]), _num_cached(grid))

    def tile(self, index: int) -> StoredTile | None:
        """Returns the result of a tile by its index among the segmented ones; None if it is not stored."""
        return self._tiles.get(index)

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


class _Cache:
    """The tiles that were read last. Threads read different tiles at the same time, and each tile once.

    Args:
      read: reads a tile.
      most: number of tiles in memory.
    """

    def __init__(self, read: Callable[[int], StoredTile | None], most: int) -> None:
        self._read, self._most, self._lock = read, most, threading.Lock()
        self._tiles: OrderedDict[int, Future[StoredTile | None]] = OrderedDict()

    def get(self, index: int) -> StoredTile | None:
        """Returns a tile."""
        with self._lock:
            is_missing = index not in self._tiles
            future = self._tiles.setdefault(index, Future())
            self._tiles.move_to_end(index)
            if len(self._tiles) > self._most:
                self._tiles.popitem(last=False)
        if is_missing:
            try:
                future.set_result(self._read(index))
            except BaseException as error:
                future.set_exception(error)
        return future.result()


def _num_cached(grid: Grid) -> int:
    """Returns how many tiles stay in memory: those around the tiles of all threads, if there is space."""
    side = min(grid.core + 2 * grid.halo, max(grid.shape))
    return max(4, min(3 * (num_threads() + 2), MEMORY // (PIXEL * side**2)))
