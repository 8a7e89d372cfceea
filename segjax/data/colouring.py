"""Colours of instances, such that neighbours differ."""

from __future__ import annotations

import numpy as np

# Number of colours. Four suffice for any map in the plane, but greedy colouring may need more.
COLOURS = 4
# Instances are neighbours if two of their pixels are at most this far apart, in rows and in columns.
RADIUS = 4


def instance_colours(labels: np.ndarray) -> np.ndarray:
    """Returns a colour for each instance, such that neighbours differ.

    Greedy colouring, the largest instance first: each takes the lowest colour that no neighbour has. Isolated
    instances have colour 1, and of two neighbours the larger has the lower colour; so the colour does not
    depend on ids, mirror images and rotations, and a network can predict it from what it sees. If the
    neighbours have all colours, the instance takes the colour with the least contact to them.

    Args:
      labels: [H, W] int32, 0 is background, gaps allowed.

    Returns:
      [H, W] int32, 1 to `COLOURS`, 0 in the background.

    References:
      Welsh and Powell (1967), with areas in place of degrees. For cells: Zhang et al., The four color theorem
      for cell instance segmentation (2025).
    """
    first, second, contact = neighbours(labels, RADIUS)
    # Every pair in both directions, sorted by the first.
    ids, others = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.argsort(ids, kind="stable")
    ids, others, contact = ids[order], others[order], np.concatenate([contact, contact])[order]
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    starts = np.searchsorted(ids, np.arange(len(areas) + 1))
    colours = np.zeros(len(areas), np.int32)
    for index in np.argsort(-areas, kind="stable")[: np.count_nonzero(areas)]:
        around = slice(starts[index], starts[index + 1])
        weights = np.bincount(colours[others[around]], contact[around], minlength=COLOURS + 1)
        colours[index] = 1 + weights[1:].argmin()
    return colours[labels]


def neighbours(labels: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the pairs of instances that are near each other.

    Args:
      labels: [H, W] int32, 0 is background, gaps allowed.
      radius: maximum distance of their pixels, in rows and in columns.

    Returns:
      The lower and the higher id of each pair, and its contact: the number of pairs of pixels, one of each,
      within the radius; each [E] int.
    """
    size = int(labels.max(initial=0)) + 1
    height, width = labels.shape
    padded = np.pad(labels, ((0, radius), (radius, radius)))
    codes = []
    for down in range(radius + 1):
        for right in range(-radius if down else 1, radius + 1):
            moved = padded[down : down + height, radius + right : radius + right + width]
            differ = (labels != moved) & (labels > 0) & (moved > 0)
            one, other = labels[differ].astype(np.int64), moved[differ].astype(np.int64)
            codes.append(np.minimum(one, other) * size + np.maximum(one, other))
    pairs, contact = np.unique(np.concatenate([np.zeros(0, np.int64), *codes]), return_counts=True)
    return pairs // size, pairs % size, contact
