"""Synthetic series of label images with known tracks: cells that move, divide, enter and vanish."""

import dataclasses

import numpy as np

from segjax.segmentation import Segmentation


@dataclasses.dataclass
class Disc:
    """A cell: a disc that grows and moves."""

    track: int
    y: float
    x: float
    radius: float
    age: int


def make_series(*, frames=30, side=400, cells=25, seed=0, missing=0.0, drift=(0.0, 0.0)):
    """Makes a series.

    Args:
      frames: number of frames.
      side: of the square frames, pixels.
      cells: number of cells in the first frame.
      seed: random seed.
      missing: probability that a cell is missing in a frame, in `labels` only.
      drift: of all cells, pixels per frame.

    Returns:
      labels: of each frame, [H, W] int32, the ids 1 to N in random order.
      truth: of each frame, [H, W] int32 the true tracks.
      lineage: rows (track, first, last, parent), as in the Cell Tracking Challenge.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    discs, count = [], 0

    def new(y, x, radius, age):
        nonlocal count
        count += 1
        return Disc(count, y, x, radius, age)

    grid = int(np.ceil(np.sqrt(cells)))
    for index in range(cells):
        y, x = ((np.array(divmod(index, grid)) + 0.5) * side / grid + rng.normal(0, 4, 2)).tolist()
        discs.append(new(y, x, rng.uniform(8, 11), rng.integers(0, 16)))
    parents, labels, truth = {disc.track: 0 for disc in discs}, [], []
    for _ in range(frames):
        tracked = np.zeros((side, side), np.int32)
        for disc in discs:
            inside = (rows - disc.y) ** 2 + (columns - disc.x) ** 2 < disc.radius**2
            tracked[inside & (tracked == 0)] = disc.track
        truth.append(tracked)
        present = np.unique(tracked[tracked > 0])
        seen = present[rng.random(len(present)) >= missing]
        order = np.zeros(count + 1, np.int32)
        order[rng.permutation(seen)] = np.arange(1, len(seen) + 1)
        labels.append(Segmentation.from_labels(order[tracked]).labels)
        following = []
        for disc in discs:
            if disc.age > 18 and rng.random() < 0.25:
                angle = rng.uniform(0, np.pi)
                for sign in (-1, 1):
                    radius = disc.radius * rng.uniform(0.68, 0.75)
                    y, x = (
                        getattr(disc, axis) + sign * 1.1 * radius * along
                        for axis, along in (("y", np.sin(angle)), ("x", np.cos(angle)))
                    )
                    daughter = new(y, x, radius, 0)
                    parents[daughter.track] = disc.track
                    following.append(daughter)
            elif rng.random() > 0.004:
                following.append(disc)
                disc.age += 1
                disc.radius = min(disc.radius * 1.03, 11)
        discs = following
        for disc in discs:
            _push(disc, discs)
            disc.y, disc.x = (
                disc.y + rng.normal(0, 2) + drift[0],
                disc.x + rng.normal(0, 2) + drift[1],
            )
        discs = [disc for disc in discs if 0 < disc.y < side - 1 and 0 < disc.x < side - 1]
        if rng.random() < 0.15:
            disc = new(1.0, rng.uniform(20, side - 20), 9, 0)
            parents[disc.track] = 0
            discs.append(disc)
    return labels, truth, lineage_of(truth, parents)


def lineage_of(truth, parents):
    """Returns the rows of the tracks that are visible, each as long as it is without a gap."""
    visible = {}
    for frame, tracked in enumerate(truth):
        for track in np.unique(tracked[tracked > 0]).tolist():
            visible.setdefault(track, []).append(frame)
    return [
        (track, seen[0], seen[-1], parents[track] if parents[track] in visible else 0)
        for track, seen in sorted(visible.items())
    ]


def _push(disc, discs):
    """Moves a cell away from its neighbours."""
    for other in discs:
        offset = np.array([disc.y - other.y, disc.x - other.x])
        distance = np.linalg.norm(offset)
        overlap = disc.radius + other.radius - distance
        if other is not disc and overlap > 0 and distance > 0:
            disc.y, disc.x = np.array([disc.y, disc.x]) + 0.5 * overlap * offset / distance
