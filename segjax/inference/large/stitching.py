"""Joins the cells of the tiles of a large image, so that a cell on a seam is one cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segjax.inference.large.grid import Box, Grid, Tile
from segjax.inference.large.store import Pieces, StoredTile
from segjax.segmentation.masks import weighted_median

# Instances of two tiles are the same cell if more than this fraction of their pixels is common.
SAME = 0.5


class Stitched(NamedTuple):
    """The M cells of an image, whose ids are 1..M.

    Attributes:
      ids: [T] arrays [N], the id of each instance of a tile, 0 if it is dropped.
      owner: [M, 2] int64, index of the tile that has most pixels of the cell, and of the instance in it.
      classes: [M] int32.
      scores: [M] float32.
      areas: [M] int64, pixels.
      centroids: [M, 2] float64, `(x, y)`.
      boxes: [M, 4] int64, `(x0, y0, x1, y1)`.
    """

    ids: list[np.ndarray]
    owner: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    centroids: np.ndarray
    boxes: np.ndarray

    @property
    def num_cells(self) -> int:
        """The number of cells, M."""
        return len(self.classes)


class _Known(NamedTuple):
    """The strips of a tile along its seams, which stay in memory until its neighbours are read."""

    tile: Tile
    first: int
    is_own: np.ndarray
    strips: list[tuple[Box, np.ndarray]]


def stitch(
    grid: Grid,
    tiles: Sequence[Tile],
    read: Callable[[Tile], StoredTile | None],
    *,
    min_fraction: float = 0.0,
    contains: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Stitched:
    """Joins the cells of tiles; time and memory grow linearly with the cells and the length of the seams.

    Windows overlap, so that both tiles at a seam see the cells on it. Two instances are the same cell if
    their intersection over union in the overlap is above 0.5. An instance that is mostly in the core of the
    other tile is also the same cell as the instance with which it has most pixels in common, if these are
    more than half of the smaller one. A cell has the class and the score of the tile with most of its pixels.

    Args:
      grid: all tiles of the image.
      tiles: the tiles that are segmented, row by row.
      read: returns the result of a tile, None if it has none.
      min_fraction: cells below this fraction of the typical area of their class are dropped, see
        `typical_area`.
      contains: returns [P] bool, whether each of the centroids [P, 2] `(x, y)` is in the region; cells
        outside are dropped. None for the full image.
    """
    pieces, classes, scores, network_areas, firsts = [], [], [], [], []
    pairs: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
    above: dict[int, _Known] = {}
    count = 0
    for tile in tiles:
        stored = read(tile)
        firsts.append(count)
        if stored is None:
            above.pop(tile.column, None)
            continue
        known = _Known(tile, count, stored.pieces.area > 0, _strips(tile, stored.labels, grid.halo))
        for column, neighbour in ((tile.column - 1, tile.row), (tile.column, tile.row - 1)):
            other = above.get(column)
            if other is not None and other.tile.row == neighbour:
                pairs.append(_pairs(other, known))
        above[tile.column] = known
        pieces.append(stored.pieces)
        classes.append(stored.classes)
        scores.append(stored.scores)
        network_areas.append(stored.network_areas)
        count += len(stored.classes)
    if not count:
        return _nothing(len(tiles))
    joined = Pieces(*(np.concatenate(values) for values in zip(*pieces, strict=True)))
    cells = _cells(joined, np.concatenate(pairs))
    is_valid = _large_enough(
        np.concatenate(network_areas)[cells.owner], np.concatenate(classes)[cells.owner], min_fraction
    )
    if contains is not None:
        is_valid &= contains(cells.centroids)
    return _numbered(cells, is_valid, firsts, np.concatenate(classes), np.concatenate(scores))


class _Cells(NamedTuple):
    """The cells in order of their owners, before some are dropped.

    `cell` is the cell of each instance, -1 if it has no pixel in the core of its tile; `owner` is the
    instance with most pixels of each cell.
    """

    cell: np.ndarray
    owner: np.ndarray
    areas: np.ndarray
    centroids: np.ndarray
    boxes: np.ndarray


def _cells(pieces: Pieces, pairs: np.ndarray) -> _Cells:
    count = len(pieces.area)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    group = connected_components(graph, directed=False)[1]
    # Instances by their group, the largest part first.
    order = np.lexsort((np.arange(count), -pieces.area, group))
    order = order[pieces.area[order] > 0]
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    if not len(starts):
        starts = np.zeros(0, np.int64)
    sums = {
        name: np.add.reduceat(getattr(pieces, name)[order], starts) for name in ("area", "rows", "columns")
    }
    low = np.minimum.reduceat(pieces.boxes[order, :2], starts)
    high = np.maximum.reduceat(pieces.boxes[order, 2:], starts)
    parts = np.diff(starts, append=len(order))
    owner = order[starts]
    rank = np.argsort(owner)
    number = np.empty(len(rank), np.int64)
    number[rank] = np.arange(len(rank))
    cell = np.full(count, -1, np.int64)
    cell[order] = np.repeat(number, parts)
    centroids = np.stack([sums["columns"], sums["rows"]], 1) / sums["area"][:, None]
    boxes = np.concatenate([low, high], axis=1)
    return _Cells(cell, *(values[rank] for values in (owner, sums["area"], centroids, boxes)))


def _large_enough(areas: np.ndarray, classes: np.ndarray, min_fraction: float) -> np.ndarray:
    is_large = np.ones(len(areas), bool)
    for index in np.unique(classes) if min_fraction else ():
        has_class = classes == index
        least = round(min_fraction * weighted_median(areas[has_class], areas[has_class]))
        is_large &= ~has_class | (areas >= least)
    return is_large


def _numbered(
    cells: _Cells, is_valid: np.ndarray, firsts: Sequence[int], classes: np.ndarray, scores: np.ndarray
) -> Stitched:
    numbers = np.append(np.where(is_valid, np.cumsum(is_valid), 0), 0).astype(np.int32)
    ids = np.split(numbers[cells.cell], firsts[1:])
    owner = cells.owner[is_valid]
    tile = np.searchsorted(firsts, owner, side="right") - 1
    return Stitched(
        ids,
        np.stack([tile, owner - np.array(firsts)[tile]], axis=1),
        classes[owner],
        scores[owner],
        cells.areas[is_valid],
        cells.centroids[is_valid],
        cells.boxes[is_valid],
    )


def _nothing(num_tiles: int) -> Stitched:
    empty = np.zeros(0, np.int64)
    ids = [np.zeros(0, np.int32) for _ in range(num_tiles)]
    fours, twos = np.zeros((0, 4), np.int64), np.zeros((0, 2))
    return Stitched(
        ids,
        twos.astype(np.int64),
        empty.astype(np.int32),
        empty.astype(np.float32),
        empty,
        twos,
        fours,
    )


def _strips(tile: Tile, labels: np.ndarray, halo: int) -> list[tuple[Box, np.ndarray]]:
    """Returns the parts of a window that are at most `halo` from the edges of its core."""
    core, window = tile.core, tile.window
    boxes = [
        *(Box(seam - halo, window.left, seam + halo, window.right) for seam in (core.top, core.bottom)),
        *(Box(window.top, seam - halo, window.bottom, seam + halo) for seam in (core.left, core.right)),
    ]
    # Copies, so that the window is freed.
    inside = [box.common(window) for box in boxes]
    return [(box, labels[box.within(window)].copy()) for box in inside]


def _pairs(first: _Known, second: _Known) -> np.ndarray:
    """Returns the pairs [P, 2] of instances of two neighbouring tiles that are the same cell."""
    overlap = first.tile.window.common(second.tile.window)
    one, other = (_part(known, overlap) for known in (first, second))
    both = (one > 0) & (other > 0)
    width = int(other.max(initial=0)) + 1
    keys, common = np.unique(one[both].astype(np.int64) * width + other[both], return_counts=True)
    left, right = np.divmod(keys, width)
    areas, beyond = [], []
    for known, labels in ((first, one), (second, other)):
        area = np.bincount(labels.ravel())
        own = labels[known.tile.core.common(overlap).within(overlap)]
        areas.append(area)
        beyond.append(2 * np.bincount(own.ravel(), minlength=len(area)) < area)
    is_same = common > SAME * (areas[0][left] + areas[1][right] - common)
    is_inside = common > SAME * np.minimum(areas[0][left], areas[1][right])
    for ids, is_beyond in ((left, beyond[0]), (right, beyond[1])):
        is_same |= is_inside & is_beyond[ids] & _is_largest(common, ids)
    left, right = left[is_same] - 1, right[is_same] - 1
    # An instance without a pixel in the core of its tile has none in the result.
    is_own = first.is_own[left] & second.is_own[right]
    return np.stack([left[is_own] + first.first, right[is_own] + second.first], axis=1)


def _is_largest(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns whether each value is the largest of its id, the first of several."""
    order = np.lexsort((np.arange(len(ids)), -values, ids))
    is_largest = np.zeros(len(ids), bool)
    is_largest[order[np.diff(ids[order], prepend=-1) != 0]] = True
    return is_largest


def _part(known: _Known, box: Box) -> np.ndarray:
    """Returns the labels of a box that is in one of the strips of a tile."""
    for outer, labels in known.strips:
        if outer.common(box) == box:
            return labels[box.within(outer)]
    raise ValueError(f"{box} is in no strip of the tile {known.tile}")
