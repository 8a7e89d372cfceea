"""Links the cells of the slices of a stack to cells in 3-D."""

from __future__ import annotations

import dataclasses

import numpy as np

from segjax.tracking.assignment import assign
from segjax.tracking.cells import overlap
from segjax.tracking.settings import TrackingConfig
from segjax.tracking.tracker import Tracker
from segjax.tracking.tracks import Tracks


class SliceLinker(Tracker):
    """Links cells of adjacent slices by their overlap; the tracks are the cells in 3-D.

    Two cells are the same if their intersection over union is at least `TrackingConfig.min_overlap`. If there
    are several choices, the pairs with the largest sum are chosen, see `assign`. No cell skips a slice.

    Args:
      config: settings, of which only `min_overlap` is used.
    """

    def __init__(self, config: TrackingConfig) -> None:
        super().__init__(dataclasses.replace(config, max_gap=0, divisions=False))

    def _link(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        pairs, ious = overlap(before, after)
        is_large = ious >= self.config.min_overlap
        pairs, ious = pairs[is_large], ious[is_large]
        return pairs[assign(pairs[:, 0], pairs[:, 1], ious)], (0, 0)


def volume_table(tracks: Tracks) -> dict[str, np.ndarray]:
    """Returns a table of the K cells of a stack.

    Its columns are: cell; centroid_x_px, centroid_y_px and centroid_slice; first_slice and last_slice,
    counted from 0; slices, their number; and volume, the number of its pixels in all slices.

    Args:
      tracks: result of a `SliceLinker`.
    """
    cells, index, count = tracks.cells, tracks.ids - 1, tracks.num_tracks
    first, last = tracks.ranges().T
    volume = np.bincount(index, cells.areas, count)
    y, x, number = (
        np.bincount(index, cells.areas * values, count) / volume
        for values in (*cells.centroids.T, cells.frames)
    )
    return {
        "cell": np.arange(1, count + 1),
        "centroid_x_px": x,
        "centroid_y_px": y,
        "centroid_slice": number,
        "first_slice": first,
        "last_slice": last,
        "slices": last - first + 1,
        "volume": volume.astype(np.int64),
    }
