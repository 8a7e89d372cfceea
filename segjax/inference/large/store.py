"""The finished tiles of a large image on disk, so that a stopped prediction can continue."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from segjax.classical.measurements import Table
from segjax.files import atomic_write, remove_temporary, write_json
from segjax.inference.large.grid import Tile

ABOUT, COLUMN = "about.json", "column/"


class Pieces(NamedTuple):
    """The part of each instance that is in the core of a tile, in pixels of the image; its area may be 0.

    Attributes:
      area: [N] int64 number of pixels.
      rows: [N] int64 sum of the rows of the pixels.
      columns: [N] int64 sum of their columns.
      boxes: [N, 4] int64 `(x0, y0, x1, y1)`, with exclusive end.
    """

    area: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    boxes: np.ndarray


class StoredTile(NamedTuple):
    """A segmented tile.

    Attributes:
      labels: [H, W] int32 of its window, instances 1..N.
      semantic: [H, W] uint8 of its window.
      classes: [N] int32.
      scores: [N] float32.
      network_areas: [N] int64, pixels at the resolution of the network.
      pieces: N parts of instances in its core.
      table: measurements of the N instances in its window, empty if they were not measured.
    """

    labels: np.ndarray
    semantic: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    network_areas: np.ndarray
    pieces: Pieces
    table: Table


class TileStore:
    """The finished tiles of one image.

    Args:
      folder: the folder of their files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Opens the tiles of an earlier run of the same prediction, or removes the tiles of another one.

        Args:
          about: everything that determines the tiles, as JSON can store it.

        Returns:
          The measurements that `remember` stored; empty for a new prediction.
        """
        try:
            stored = json.loads((self._folder / ABOUT).read_bytes())
            if stored["about"] == json.loads(json.dumps(about)):
                remove_temporary(self._folder)
                return stored["remembered"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return self.clear()

    def clear(self) -> dict[str, Any]:
        """Removes all tiles, and returns the measurements of a new prediction: none."""
        shutil.rmtree(self._folder, ignore_errors=True)
        return {}

    def remember(self, about: Mapping[str, Any], remembered: Mapping[str, Any]) -> None:
        """Stores what was measured before the first tile.

        Args:
          about: see `open`.
          remembered: the measurements, as JSON can store them.
        """
        write_json(self._folder / ABOUT, {"about": about, "remembered": remembered})

    def write(self, tile: Tile, stored: StoredTile) -> None:
        """Stores a tile, atomically."""
        arrays: dict[str, np.ndarray] = {**stored._asdict(), **stored.pieces._asdict()}
        arrays |= {COLUMN + name: values for name, values in stored.table.items()}
        del arrays["pieces"], arrays["table"]
        with io.BytesIO() as content:
            np.savez(content, allow_pickle=False, **arrays)
            packed = imagecodecs.zstd_encode(content.getvalue(), level=1)
        with atomic_write(self._path(tile)) as tmp_path:
            tmp_path.write_bytes(packed)

    def read(self, tile: Tile) -> StoredTile | None:
        """Returns a tile; None if it is not stored, or its file is damaged."""
        try:
            content = imagecodecs.zstd_decode(self._path(tile).read_bytes())
            with np.load(io.BytesIO(content)) as stored:
                table = {
                    name.removeprefix(COLUMN): stored[name] for name in stored if name.startswith(COLUMN)
                }
                pieces = Pieces(**{name: stored[name] for name in Pieces._fields})
                names = set(StoredTile._fields) - {"pieces", "table"}
                return StoredTile(**{name: stored[name] for name in names}, pieces=pieces, table=table)
        # A damaged file may raise anything, such as an error of a zip archive or of the header's syntax.
        except Exception:
            return None

    def _path(self, tile: Tile) -> Path:
        return self._folder / f"{tile.row}_{tile.column}.tile"


def pieces_of(labels: np.ndarray, count: int, tile: Tile) -> Pieces:
    """Measures the parts of instances in the core of a tile.

    Args:
      labels: [H, W] int32 of the window of the tile.
      count: number of instances, N.
      tile: the tile.
    """
    core = labels[tile.core.within(tile.window)]
    rows, columns = np.nonzero(core)
    ids = core[rows, columns] - 1
    rows, columns = rows + tile.core.top, columns + tile.core.left
    area = np.bincount(ids, minlength=count)
    boxes = np.zeros((count, 4), np.int64)
    # Pixels come row by row: the first and the last of an instance have its first and its last row.
    boxes[ids[::-1], 1], boxes[ids, 3] = rows[::-1], rows + 1
    order = np.argsort(columns, kind="stable")
    boxes[ids[order][::-1], 0], boxes[ids[order], 2] = columns[order][::-1], columns[order] + 1
    sums = [np.bincount(ids, values, count).astype(np.int64) for values in (rows, columns)]
    return Pieces(area, sums[0], sums[1], boxes)
