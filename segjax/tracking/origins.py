"""Where tracks come from: divisions, tracks that ended some frames before, or nowhere."""

from __future__ import annotations

import numpy as np

from segjax.tracking.assignment import assign
from segjax.tracking.cells import move_radius, near
from segjax.tracking.settings import TrackingConfig
from segjax.tracking.tracks import APPEARS, DIVISION, GAP, AllCells

# Largest costs of a division, and of a link over frames in which a cell is missing.
DIVISION_LIMIT, GAP_LIMIT = 1.75, 1.0
# Largest distance of a daughter from its mother, in multiples of the radius.
DAUGHTER = 1.5


def find_origins(
    cells: AllCells, previous: np.ndarray, config: TrackingConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chooses the origins of all tracks together, see `assign`.

    The cost of a division has three terms: twice the distance of the mother from the middle of the daughters,
    in units of the largest move; the logarithm, to base 2, of the ratio of the areas of the daughters; and
    the logarithm of the ratio of their common area to that of the mother, if it is above 1. The cost of a
    link over a gap has two terms: the distance, in units of the largest move times the square root of the
    number of frames, because a cell diffuses; and the logarithm of the ratio of the areas.

    Args:
      cells: the n cells of all frames.
      previous: [n] int, the cell in the frame before that a cell is linked to, -1 for none.
      config: settings.

    Returns:
      Three arrays [n] int: `previous`, but -1 for daughters; the cell that a new track comes from, -1 for
      none; and how it begins, see `Tracks`.
    """
    radius = move_radius(cells.areas, config.max_move)
    following = np.full(len(previous), -1)
    linked = np.flatnonzero(previous >= 0)
    following[previous[linked]] = linked
    starts, ends = np.flatnonzero(previous < 0), np.flatnonzero(following < 0)
    gaps = _pairs(cells, starts, ends, range(2, config.max_gap + 2), radius)
    divisions = _pairs(cells, starts, previous[linked], range(1, 1 + config.divisions), DAUGHTER * radius)
    candidates = np.concatenate([gaps, divisions])
    # Divided by their limits, so that both kinds count alike.
    gains = 1 - np.concatenate(
        [
            _gap_costs(cells, gaps, radius) / GAP_LIMIT,
            _division_costs(cells, divisions, following, radius) / DIVISION_LIMIT,
        ]
    )
    chosen = assign(candidates[:, 0], candidates[:, 1], gains)
    parents, origins = np.full(len(previous), -1), np.full(len(previous), APPEARS)
    start, source = candidates[chosen].T
    parents[start], origins[start] = source, np.where(chosen < len(gaps), GAP, DIVISION)
    # The track of a mother ends, and both daughters begin.
    mothers = source[chosen >= len(gaps)]
    daughters = following[mothers]
    parents[daughters], origins[daughters] = mothers, DIVISION
    return np.where(np.isin(np.arange(len(previous)), daughters), -1, previous), parents, origins


def _pairs(
    cells: AllCells, starts: np.ndarray, sources: np.ndarray, steps: range, radius: float
) -> np.ndarray:
    """Returns the pairs [P, 2] of a start and a near source, which is `steps` frames before it.

    The radius grows with the square root of the number of frames, because cells diffuse.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    by_frame = {frame: sources[cells.frames[sources] == frame] for frame in np.unique(cells.frames[sources])}
    for frame in np.unique(cells.frames[starts]):
        later = starts[cells.frames[starts] == frame]
        for step in steps:
            earlier = by_frame.get(frame - step, np.zeros(0, np.int64))
            close = near(cells.positions[later], cells.positions[earlier], radius * np.sqrt(step))
            pairs.append(np.column_stack([later[close[:, 0]], earlier[close[:, 1]]]))
    return np.concatenate(pairs)


def _gap_costs(cells: AllCells, pairs: np.ndarray, radius: float) -> np.ndarray:
    start, end = pairs.T
    distances = np.linalg.norm(cells.positions[start] - cells.positions[end], axis=1)
    steps = cells.frames[start] - cells.frames[end]
    return distances / (radius * np.sqrt(steps)) + np.abs(np.log2(cells.areas[start] / cells.areas[end]))


def _division_costs(cells: AllCells, pairs: np.ndarray, following: np.ndarray, radius: float) -> np.ndarray:
    start, mother = pairs.T
    sister = following[mother]
    middle = (cells.positions[start] + cells.positions[sister]) / 2
    growth = (cells.areas[start] + cells.areas[sister]) / cells.areas[mother]
    return (
        2 * np.linalg.norm(middle - cells.positions[mother], axis=1) / radius
        + np.abs(np.log2(cells.areas[start] / cells.areas[sister]))
        + np.maximum(np.log2(growth), 0)
    )
