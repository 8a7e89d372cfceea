"""Tracks cells over frames that come one after the other."""

from __future__ import annotations

import numpy as np

from segjax.tracking.cells import FrameCells
from segjax.tracking.frames import find_common_motion, link_frames
from segjax.tracking.origins import find_origins
from segjax.tracking.settings import TrackingConfig
from segjax.tracking.tracks import AllCells, Tracks

# Smallest number of cells whose common motion is the drift of the stage.
MIN_CELLS = 4


class Tracker:
    """Links cells in two steps, as Jaqaman et al. (Nature Methods, 2008).

    First the cells of each two consecutive frames are linked, see `link_frames`. Then each cell without a
    link to the frame before is the daughter of a division, or the continuation of a track that ended some
    frames before, or the start of a track, see `find_origins`.

    The tracker remembers only one label image.

    Args:
      config: settings.

    >>> tracker = Tracker(TrackingConfig())
    >>> for labels in ([[1, 1, 0, 2, 2]], [[2, 2, 0, 1, 1]]):
    ...     tracker.add(np.array(labels))
    >>> tracks = tracker.finish()
    >>> [tracks.ids_in(frame).tolist() for frame in range(2)]
    [[1, 2], [2, 1]]
    """

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        self._last: np.ndarray | None = None
        self._cells: list[FrameCells] = []
        # Of each frame, the common motion of the cells since the first, and the drift of the stage.
        self._motion: list[np.ndarray] = []
        self._drift: list[np.ndarray] = []
        # Of each frame but the first, the links with the one before.
        self._links: list[np.ndarray] = []

    def add(self, labels: np.ndarray) -> None:
        """Links the next frame with the one before.

        Args:
          labels: [H, W] int, the ids 1 to N, 0 for background; H and W are those of the other frames.
        """
        cells = FrameCells.of(labels)
        if self._last is None:
            self._motion.append(np.zeros(2))
            self._drift.append(np.zeros(2))
        else:
            links, motion = self._link(self._last, labels)
            self._links.append(links)
            self._motion.append(self._motion[-1] + motion)
            is_drift = min(len(cells.areas), len(self._cells[-1].areas)) >= MIN_CELLS
            self._drift.append(self._drift[-1] + np.multiply(motion, is_drift))
        self._cells.append(cells)
        self._last = labels

    def finish(self) -> Tracks:
        """Returns the tracks of all frames.

        Raises:
          ValueError: if there is no frame.
        """
        counts = [len(cells.areas) for cells in self._cells]
        frames = np.repeat(np.arange(len(counts)), counts)
        centroids = np.concatenate([cells.centroids for cells in self._cells])
        areas = np.concatenate([cells.areas for cells in self._cells])
        positions, at_rest = (centroids - np.array(motion)[frames] for motion in (self._motion, self._drift))
        cells = AllCells(frames, centroids, positions, at_rest, areas)
        first = np.concatenate([[0], np.cumsum(counts)])
        previous = np.full(len(frames), -1)
        for frame, links in enumerate(self._links):
            previous[links[:, 1] + first[frame + 1]] = links[:, 0] + first[frame]
        return Tracks.of_cells(cells, *find_origins(cells, previous, self.config))

    def _link(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """Returns [K, 2] the links of two frames, and the rows and columns that all cells moved."""
        motion = find_common_motion(before, after)
        return link_frames(before, after, max_move=self.config.max_move, motion=motion), motion
