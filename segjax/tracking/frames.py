"""Links the cells of two consecutive frames, by their overlap and their motion."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from segjax.tracking.assignment import assign
from segjax.tracking.cells import FrameCells, move_radius, near, overlap, shift_labels

# The gain of a pair is this minus its cost, to which distance and overlap each contribute at most 1.
LIMIT = 2.0
# Frames are shrunk to this side before their common motion is estimated, pixels.
MOTION_SIDE = 512
# A common motion makes this times more foreground coincide, and is at most this fraction of the sides.
MOTION_GAIN, MAX_MOTION = 1.5, 0.25


def link_frames(
    before: np.ndarray, after: np.ndarray, *, max_move: float = 1.0, motion: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Links the cells of a frame with those of the next.

    The cost of a pair is its distance in units of the largest move, at most 1, plus 1 minus its intersection
    over union. A pair is possible if the cells overlap, or are at most the largest move apart. Of the
    possible pairs, those with the largest sum of 2 minus the cost are chosen, see `assign`.

    Args:
      before: [H, W] int, the ids 1 to N, 0 for background.
      after: [H, W] int, the ids 1 to M.
      max_move: largest distance of the centroids of cells that do not overlap, in median diameters of the
        cells of both frames.
      motion: rows and columns that all cells moved.

    Returns:
      [K, 2] int64, the indices, from 0, of both cells of each link.
    """
    # A cell that the motion takes out of the frame has no pixel, but a centroid.
    moved = shift_labels(before, motion)
    cells, others = FrameCells.of(before), FrameCells.of(after)
    radius = move_radius(np.concatenate([cells.areas, others.areas]), max_move)
    centroids = cells.centroids + motion
    pairs, ious = overlap(moved, after)
    close = near(centroids, others.centroids, radius)
    # Of a pair that is in both lists, the entry with the overlap comes first.
    pairs, first = np.unique(np.concatenate([pairs, close]), axis=0, return_index=True)
    ious = np.concatenate([ious, np.zeros(len(close))])[first]
    distances = np.linalg.norm(centroids[pairs[:, 0]] - others.centroids[pairs[:, 1]], axis=1)
    gains = LIMIT - np.minimum(distances / radius, 1) - (1 - ious)
    return pairs[assign(pairs[:, 0], pairs[:, 1], gains)]


def find_common_motion(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Estimates by how many rows and columns all cells moved together, as by a drift of the stage.

    It is the shift with which most foreground pixels coincide; of several that touch, their centre, and of
    several centres the one nearest to 0. They must be at least `MOTION_GAIN` times as many as without a
    shift: otherwise only single cells moved, and the result is `(0, 0)`.

    Args:
      before: [H, W] int, 0 for background.
      after: [H, W] int, the same shape.

    Returns:
      `(rows, columns)`, pixels.
    """
    step = -(-max(before.shape) // MOTION_SIDE)
    first, second = (labels[::step, ::step] > 0 for labels in (before, after))
    # Zeros around the frames, because the transform is periodic: pixels that leave would enter opposite.
    shape = [fft.next_fast_len(2 * length, real=True) for length in first.shape]
    spectra = [fft.rfft2(foreground.astype(np.float32), shape) for foreground in (first, second)]
    shared = np.round(fft.irfft2(np.conj(spectra[0]) * spectra[1], shape))
    limits = [int(MAX_MOTION * length) for length in first.shape]
    rows, columns = (np.arange(-limit, limit + 1) for limit in limits)
    window = shared[np.ix_(rows, columns)]
    if window.max() < MOTION_GAIN * max(shared[0, 0], 1):
        return 0, 0
    # Of cells that grow or shrink, several shifts are equally good; their centre is the motion.
    regions, count = ndimage.label(window == window.max(), structure=np.ones((3, 3)))
    centres = np.array(ndimage.center_of_mass(regions > 0, regions, range(1, count + 1))) - limits
    row, column = np.round(min(centres, key=np.linalg.norm)).astype(int).tolist()
    return row * step, column * step
