"""Tracks with their lineage, and tables of them."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

# How a track begins.
APPEARS, DIVISION, GAP = range(3)
ORIGINS = ("appears", "division", "gap")


class AllCells(NamedTuple):
    """The n cells of all frames, in the order of frames and of the ids in each.

    Attributes:
      frames: [n] int, the frame of each cell, counted from 0.
      centroids: [n, 2] float64 `(y, x)`, pixels.
      positions: [n, 2] float64, the same without the motion that all cells have in common since the first
        frame.
      at_rest: [n, 2] float64, the same without the drift of the stage: the common motion of few cells may be
        their own.
      areas: [n] float64, pixels.
    """

    frames: np.ndarray
    centroids: np.ndarray
    positions: np.ndarray
    at_rest: np.ndarray
    areas: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Tracks:
    """Tracks of cells; a track has one cell in each frame from its first to its last.

    A cell that is missing in some frames has two tracks; the one before is the parent of the one after.

    Attributes:
      cells: the n cells of all frames.
      ids: [n] int32, the track of each cell, counted from 1 in the order of their first frames.
      parents: [K] int32, the track that track i + 1 comes from, 0 if there is none.
      origins: [K] int, how track i + 1 begins: it `APPEARS`, or its parent had a `DIVISION`, or there is a
        `GAP` between its parent and it.
    """

    cells: AllCells
    ids: np.ndarray
    parents: np.ndarray
    origins: np.ndarray

    @classmethod
    def of_cells(
        cls, cells: AllCells, previous: np.ndarray, parents: np.ndarray, origins: np.ndarray
    ) -> Tracks:
        """Numbers tracks.

        Args:
          cells: the n cells of all frames.
          previous: [n] int, the cell before each cell in its track, -1 for the first of a track.
          parents: [n] int, the cell that the track of a first cell comes from, -1 for none.
          origins: [n] int, how the track of a first cell begins.
        """
        starts = np.flatnonzero(previous < 0)
        ids = np.zeros(len(previous) + 1, np.int32)  # the last entry is for the index -1, no cell
        ids[starts] = np.arange(1, len(starts) + 1)
        for frame in range(1, int(cells.frames.max(initial=0)) + 1):
            later = slice(*np.searchsorted(cells.frames, (frame, frame + 1)))
            ids[:-1][later] = np.where(previous[later] < 0, ids[:-1][later], ids[previous[later]])
        return cls(cells, ids[:-1], ids[parents[starts]], origins[starts])

    @property
    def num_tracks(self) -> int:
        """The number of tracks, K."""
        return len(self.parents)

    def ids_in(self, frame: int) -> np.ndarray:
        """Returns [N] int32, the tracks of the cells 1 to N of a frame."""
        return self.ids[slice(*np.searchsorted(self.cells.frames, (frame, frame + 1)))]

    def ranges(self) -> np.ndarray:
        """Returns [K, 2] int, the first and the last frame of each track."""
        order = np.argsort(self.ids, kind="stable")
        frames, ids = self.cells.frames[order], self.ids[order]
        sides = [np.searchsorted(ids, np.arange(1, self.num_tracks + 1), side) for side in ("left", "right")]
        return np.column_stack([frames[sides[0]], frames[sides[1] - 1]])

    def table(self, pixel_size: float | None = None) -> dict[str, np.ndarray]:
        """Returns a table of the tracks.

        Its columns are: track; parent, 0 if there is none; origin, a name in `ORIGINS`; root, the first
        track of the lineage; generation, the number of divisions since the root; daughters, their number;
        first_frame and last_frame, counted from 0; length, in frames; path_px and net_px, the length of the
        path and the distance between its ends, both without the drift of the stage; mean_speed_px, per
        frame, NaN for a track of one frame; and mean_area_px. With a pixel size there are also lengths in um
        and areas in um2.

        Args:
          pixel_size: side of a pixel, micrometres.
        """
        numbers = np.arange(1, self.num_tracks + 1)
        first, last = self.ranges().T
        length = last - first + 1
        root, generation = numbers.copy(), np.zeros_like(numbers)
        # A parent begins before, so its number is smaller.
        for index in np.flatnonzero(self.parents):
            parent = self.parents[index] - 1
            root[index] = root[parent]
            generation[index] = generation[parent] + (self.origins[index] == DIVISION)
        daughters = np.bincount(self.parents[self.origins == DIVISION], minlength=self.num_tracks + 1)[1:]
        order = np.argsort(self.ids, kind="stable")
        ids, positions = self.ids[order], self.cells.at_rest[order]
        steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        is_step = ids[1:] == ids[:-1]
        path = np.bincount(ids[1:][is_step] - 1, steps[is_step], self.num_tracks)
        ends = np.cumsum(length)
        columns = {
            "track": numbers,
            "parent": self.parents,
            "origin": np.array(ORIGINS)[self.origins],
            "root": root,
            "generation": generation,
            "daughters": daughters,
            "first_frame": first,
            "last_frame": last,
            "length": length,
            "path_px": path,
            "net_px": np.linalg.norm(positions[ends - 1] - positions[ends - length], axis=1),
            "mean_speed_px": np.divide(path, length - 1, np.full(len(path), np.nan), where=length > 1),
            "mean_area_px": np.bincount(self.ids - 1, self.cells.areas, self.num_tracks) / length,
        }
        if pixel_size is not None:
            for name in ("path", "net", "mean_speed"):
                columns[f"{name}_um"] = columns[f"{name}_px"] * pixel_size
            columns["mean_area_um2"] = columns["mean_area_px"] * pixel_size**2
        return columns

    def ctc_lines(self) -> str:
        """Returns `res_track.txt` of the Cell Tracking Challenge: track, first and last frame, and parent."""
        rows = np.column_stack([np.arange(1, self.num_tracks + 1), self.ranges(), self.parents])
        return "".join(f"{' '.join(map(str, row))}\n" for row in rows.tolist())

    def tails(self, frame: int, length: int) -> dict[int, np.ndarray]:
        """Returns the last positions of the cells of a frame, including those of their parents.

        Args:
          frame: the frame.
          length: number of frames before it.

        Returns:
          For each track in the frame, [L, 2] float64 `(y, x)`, pixels, the earliest first.
        """
        first, now, end = np.searchsorted(self.cells.frames, (max(frame - length, 0), frame, frame + 1))
        paths: dict[int, list[np.ndarray]] = {}
        for index in range(first, end):
            track = int(self.ids[index])
            if track not in paths:
                paths[track] = list(paths.get(int(self.parents[track - 1]), []))
            paths[track].append(self.cells.centroids[index])
        return {int(track): np.array(paths[int(track)]) for track in self.ids[now:end]}
