"""The tables and outlines of the cells of a large image, made tile by tile."""

from __future__ import annotations

import dataclasses
import errno
import functools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from segjax.classical.measurements import (
    NEAR,
    Table,
    count_near,
    in_micrometres,
    measure,
    nearest_distances,
)
from segjax.data.readers.lazy import Level
from segjax.inference.large.composition import Composition
from segjax.inference.large.grid import Box, Tile
from segjax.inference.large.methods import Decoded
from segjax.inference.large.store import StoredTile
from segjax.inference.neighbours import Radius, count_neighbours
from segjax.inference.ordered import in_order
from segjax.inference.polygons import Polygon, trace
from segjax.segmentation import Segmentation

# Largest window in which a cell on a seam is measured and traced again, pixels.
MAX_WINDOW = 2**25
# Last parts of the names of columns that depend on the pixel size.
MICROMETRES = ("_um", "_um2")


@dataclasses.dataclass(frozen=True, eq=False)
class Measuring:
    """Measures cells in windows of a large image, in pixels.

    Attributes:
      level: the image that was segmented.
      limits: [2, C] smallest and largest intensity of the image.
      class_names: K names, background first.
      pixel_size: side of a pixel in micrometres, None if it is unknown. The measurements do not depend on it,
        because those of tiles are stored, and the same tiles serve for other pixel sizes.
    """

    level: Level
    limits: np.ndarray
    class_names: Sequence[str]
    pixel_size: float | None

    def __call__(self, tile: Tile, decoded: Decoded) -> Table:
        """Measures the N instances of a tile in its window; the row of one without a pixel has zeros."""
        ids = np.unique(decoded.labels[decoded.labels > 0])
        table = self.measure_window(
            tile.window, decoded.labels, decoded.classes[ids - 1], decoded.scores[ids - 1]
        )
        return {name: _spread(values, ids - 1, len(decoded.classes)) for name, values in table.items()}

    def measure_window(self, box: Box, labels: np.ndarray, classes: np.ndarray, scores: np.ndarray) -> Table:
        """Measures the instances of a box of the image.

        Args:
          box: the box.
          labels: [h, w] int32, the ids in the box, which may have gaps.
          classes: [N] int32, the classes of the ids in ascending order.
          scores: [N] float32, their scores.

        Returns:
          Columns of N values; positions are in pixels of the full image.
        """
        pixels = self.level.read(box.top, box.left, *box.shape)
        segmentation = Segmentation.from_labels(labels, classes=classes, scores=scores)
        table = measure(pixels, segmentation, class_names=self.class_names, limits=self.limits)
        for axis, first in (("x", box.left), ("y", box.top)):
            for name in (f"centroid_{axis}_px", f"{axis}0_px", f"{axis}1_px"):
                table[name] = table[name] + first
        return table


class _Labels(NamedTuple):
    """The cells of a box of the image: their ids [h, w], 0 for background."""

    box: Box
    labels: np.ndarray

    def contains(self, box: Box) -> bool:
        """Returns whether all pixels of another box are known."""
        return self.box.common(box) == box


@dataclasses.dataclass(frozen=True, eq=False)
class LargeCells:
    """The cells of a large image.

    Attributes:
      name: name of the image.
      composition: the joined cells.
      measuring: measures them.
      colour_of: `class -> RGB`, 0 to 255.
      to_file: side of a pixel of the image that was segmented, in pixels of the finest level of the file.
      radius: the table counts the other cells within this radius; None for no such column.
    """

    name: str
    composition: Composition
    measuring: Measuring
    colour_of: Callable[[int], tuple[int, int, int]]
    to_file: float = 1.0
    radius: Radius | None = None

    def tables(self) -> Iterator[Table]:
        """Yields the measurements of the cells, in order of their ids.

        There is one table for each tile with cells; if no tile has any, one with the columns alone.
        """
        parts = self._parts()
        if not parts:
            nothing = np.zeros(0, np.int32)
            table = self.measuring.measure_window(
                Box(0, 0, 1, 1), np.zeros((1, 1), np.int32), nothing, nothing.astype(np.float32)
            )
            yield self._completed(table, 0, 0)
        yield from in_order(functools.partial(self._table, *part) for part in parts)

    def outlines(self) -> Iterator[tuple[int, list[Polygon]]]:
        """Yields the index of each cell and its polygons, in pixels of the image that was segmented."""
        for traced in in_order(functools.partial(self._outlines, *part) for part in self._parts()):
            yield from traced

    def _parts(self) -> list[tuple[int, int, int]]:
        """Returns the index of each tile that owns cells, its first cell, and the cell after its last."""
        owners = self.composition.stitched.owner[:, 0]
        indices, starts = np.unique(owners, return_index=True)
        ends = np.append(starts[1:], len(owners))
        return list(zip(indices.tolist(), starts.tolist(), ends.tolist(), strict=True)) if len(owners) else []

    def _table(self, index: int, start: int, end: int) -> Table:
        stitched, stored, around = self.composition.stitched, self._stored(index), self._around(index)
        chosen = stitched.owner[start:end, 1]
        # An earlier version also stored micrometres.
        table = {
            name: values[chosen] for name, values in stored.table.items() if not name.endswith(MICROMETRES)
        }
        for cell in np.flatnonzero(~self._is_complete(index, start, end, around)).tolist():
            self._measure_again(table, cell, start + cell, around)
        table["id"] = np.arange(start + 1, end + 1)
        height, width = self.composition.grid.shape
        boxes = stitched.boxes[start:end]
        for column, name in enumerate(("x0_px", "y0_px", "x1_px", "y1_px")):
            table[name] = boxes[:, column]
        table["touches_border"] = (boxes[:, :2] == 0).any(1) | (boxes[:, 2:] == (width, height)).any(1)
        table["neighbours"] = self._count_near(start, end, around)
        table["nearest_px"] = self._nearest[start:end]
        return self._completed(table, start, end)

    def _completed(self, table: Table, start: int, end: int) -> Table:
        """Adds the columns that depend on the pixel size and on the radius."""
        pixel_size = self.measuring.pixel_size
        if pixel_size is not None:
            table |= in_micrometres(table, pixel_size)
        if self.radius is not None:
            table[self.radius.column] = self._within[start:end]
        return table

    def _measure_again(self, table: Table, row: int, cell: int, around: _Labels) -> None:
        box = self._box(cell, 1)
        if box.shape[0] * box.shape[1] > MAX_WINDOW:
            table["area_px"][row] = self.composition.stitched.areas[cell]
            return
        mask = (self._labels(box, around) == cell + 1).astype(np.int32)
        classes, scores = table["class"][row : row + 1], table["score"][row : row + 1]
        again = self.measuring.measure_window(box, mask, classes, scores)
        for name in set(again) - {"neighbours", "id"}:
            table[name][row] = again[name][0]

    def _count_near(self, start: int, end: int, around: _Labels) -> np.ndarray:
        """Returns the number of neighbours of some cells among those of the image.

        Tiles cannot count them: they also see instances that are dropped, and not all cells of other tiles.
        """
        counts = _neighbours(around.labels, np.arange(start + 1, end + 1))
        for cell in range(start, end):
            box = self._box(cell, NEAR)
            # The neighbours of a larger cell are those in the window of its tile.
            if not around.contains(box) and box.shape[0] * box.shape[1] <= MAX_WINDOW:
                counts[cell - start] = _neighbours(self._labels(box, around), np.array([cell + 1]))[0]
        return counts

    def _outlines(self, index: int, start: int, end: int) -> list[tuple[int, list[Polygon]]]:
        stitched, stored, around = self.composition.stitched, self._stored(index), self._around(index)
        window, chosen = self.composition.tiles[index].window, stitched.owner[start:end, 1]
        # The outlines of the other cells are read from all of their tiles.
        is_complete = self._is_complete(index, start, end, around)
        numbers = np.zeros(len(stored.classes) + 1, np.int32)
        numbers[chosen[is_complete] + 1] = np.arange(1, is_complete.sum() + 1)
        corner = np.array([window.left, window.top], np.int32)
        traced = dict(zip(np.flatnonzero(is_complete).tolist(), trace(numbers[stored.labels]), strict=True))
        return [
            (
                start + cell,
                [[ring + corner for ring in polygon] for polygon in traced[cell]]
                if cell in traced
                else self._outline(start + cell, around),
            )
            for cell in range(end - start)
        ]

    def _is_complete(self, index: int, start: int, end: int, around: _Labels) -> np.ndarray:
        """Returns which cells of a tile have the same pixels in the tile as in the image.

        The others have parts beyond its window, or other tiles see other pixels.
        """
        stitched, stored = self.composition.stitched, self._stored(index)
        chosen = stitched.owner[start:end, 1]
        areas = np.bincount(stored.labels.ravel(), minlength=len(stored.classes) + 1)[1:]
        ids = np.zeros(len(stored.classes) + 1, np.int32)
        ids[chosen + 1] = np.arange(start + 1, end + 1)
        own = ids[stored.labels]
        common = np.bincount(own[own == around.labels], minlength=end + 1)[start + 1 :]
        return (areas[chosen] == stitched.areas[start:end]) & (common == stitched.areas[start:end])

    def _around(self, index: int) -> _Labels:
        """Returns the cells in the window of a tile, which is read once for all cells of the tile."""
        window = self.composition.tiles[index].window
        return _Labels(window, self.composition.read(window).labels)

    def _labels(self, box: Box, around: _Labels) -> np.ndarray:
        """Returns the labels [h, w] of a box."""
        if around.contains(box):
            return around.labels[box.within(around.box)]
        return self.composition.read(box).labels

    def _box(self, cell: int, margin: int) -> Box:
        """Returns the box of a cell with a margin, without pixels outside of the image."""
        left, top, right, bottom = self.composition.stitched.boxes[cell].tolist()
        height, width = self.composition.grid.shape
        box = Box(top - margin, left - margin, bottom + margin, right + margin)
        return box.common(Box(0, 0, height, width))

    def _stored(self, index: int) -> StoredTile:
        stored = self.composition.tile(index)
        if stored is None:
            raise OSError(errno.EIO, "a finished tile was removed: run the same command again")
        return stored

    def _outline(self, cell: int, around: _Labels) -> list[Polygon]:
        box = self._box(cell, 0)
        polygons = trace((self._labels(box, around) == cell + 1).astype(np.int32))[0]
        return [[ring + np.array([box.left, box.top], np.int32) for ring in polygon] for polygon in polygons]

    @cached_property
    def _nearest(self) -> np.ndarray:
        return nearest_distances(self.composition.stitched.centroids)

    @cached_property
    def _within(self) -> np.ndarray:
        assert self.radius is not None
        radius = self.radius.in_pixels(self.measuring.pixel_size, self.name)
        return count_neighbours(self.composition.stitched.centroids, radius)


def _neighbours(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns the number of neighbours of the cells `ids`, all of which occur in the labels [h, w]."""
    occurs = np.zeros(int(labels.max(initial=0)) + 1, bool)
    occurs[labels] = occurs[0] = True
    numbers = (np.cumsum(occurs) - 1).astype(np.int32)
    return count_near(numbers[labels], int(numbers[-1]))[numbers[ids] - 1]


def _spread(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Returns [count] values: `values` in the rows `rows`, and zeros in the others."""
    spread = np.zeros(count, values.dtype)
    spread[rows] = values
    return spread
