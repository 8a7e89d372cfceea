"""Naive method: threshold hand-made features, erode to a hierarchy of cores, grow the cores back."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import watershed as flood

from segjax.classical.contrast import contrast, cut
from segjax.classical.features import HAND_MADE, hand_made_of
from segjax.classical.stages import Stages
from segjax.classical.watershed import centres
from segjax.segmentation import Segmentation
from segjax.segmentation.split_touching import background_distance, fill_holes

# Maximum number of levels of the distance map.
MAX_LEVELS = 64


def naive(
    image: np.ndarray,
    *,
    gamma: float = 1.0,
    window: int = 101,
    share: float = 0.75,
    bright: bool | None = None,
    stained: bool | None = None,
    smoothing: float = 1.0,
    min_core: int = 4,
    min_area: int = 20,
    max_hole: int = 100,
) -> Stages:
    """Segments by thresholding hand-made features and splitting the foreground by erosion.

    `cut` thresholds the contrast, blurred with sigma 1, into the foreground. Raising the level of the
    distance map breaks a component into pieces, its children, and so on recursively. The leaves of this
    tree are the cell cores (`cores`). They grow back over the foreground; each pixel goes to
    the nearest core of its component.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      gamma: exponent of the contrast; below 1, dim cells stand out more.
      window: side of the local-mean window of `cut`, pixels; 0 uses the global threshold.
      share: fraction of Otsu's threshold, see `cut`.
      bright: whether cells are brighter than the background; None decides automatically, see `contrast`.
      stained: whether the image shows stained tissue; None decides automatically, see `contrast`.
      smoothing: standard deviation of the Gaussian that smooths the distance map, pixels.
      min_core: smallest piece that counts when a component breaks, pixels.
      min_area: smallest instance to keep, pixels.
      max_hole: largest hole to fill, pixels.

    Returns:
      The stages. The segmentation is empty if the image has no contrast.

    Raises:
      InputError: if the image cannot be used.
    """
    intensity = contrast(image, bright=bright, stained=stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    maps = hand_made_of(intensity**gamma)
    named = {name: maps[..., index] for index, name in enumerate(HAND_MADE)}
    blurred = named["gauss 1"]
    if blurred.min() == blurred.max():
        return Stages.nothing(image.shape[:2], named)
    foreground = fill_holes(cut(blurred, window=window, share=share), max_hole)
    distance = ndimage.gaussian_filter(background_distance(foreground), smoothing) * foreground
    seeds = cores(distance, foreground, min_core=min_core)
    # Flooding by distance to the nearest core grows all cores at once, each within its own component.
    core_distance = ndimage.distance_transform_edt(seeds == 0) if seeds.any() else distance
    labels = flood(core_distance, seeds, mask=foreground, connectivity=2)
    labels[np.bincount(labels.ravel())[labels] < min_area] = 0
    return Stages(
        named | {"distance": distance}, foreground, centres(seeds), Segmentation.from_labels(labels)
    )


def cores(distance: np.ndarray, foreground: np.ndarray, *, min_core: int) -> np.ndarray:
    """Finds the leaves of the component tree of a distance map.

    Args:
      distance: [H, W] float, pixels.
      foreground: [H, W] bool, the roots.
      min_core: smallest piece that counts when a component breaks, pixels.

    Returns:
      [H, W] int, core labels 1..N, 0 elsewhere. Every connected component has at least one core.

    References:
      Salembier et al., https://doi.org/10.1109/83.663500 (component trees)
    """
    step = max(1.0, float(distance.max(initial=0)) / MAX_LEVELS)
    core_labels = np.zeros(foreground.shape, np.int32)
    count = 0
    parts = label(foreground, connectivity=2)
    # Each entry: window of a component, its mask in that window, and the level at which it appeared.
    waiting = [
        (window, parts[window] == index, 0.0)
        for index, window in enumerate(ndimage.find_objects(parts), start=1)
    ]
    while waiting:
        window, component, level = waiting.pop()
        heights = np.where(component, distance[window], -1.0)
        children = _break_up(heights, level, step, min_core)
        if not children:
            count += 1
            core_labels[window][component] = count
            continue
        top, left = window[0].start, window[1].start
        for (rows, columns), piece, new_level in children:
            piece_window = (
                slice(top + rows.start, top + rows.stop),
                slice(left + columns.start, left + columns.stop),
            )
            waiting.append((piece_window, piece, new_level))
    return core_labels


def _break_up(
    heights: np.ndarray, level: float, step: float, min_core: int
) -> list[tuple[tuple[slice, slice], np.ndarray, float]]:
    """Returns the pieces of a component at the first level with at least two large enough pieces."""
    highest = float(heights.max())
    while (level := level + step) < highest:
        pieces = label(heights > level, connectivity=2)
        large = np.flatnonzero(np.bincount(pieces.ravel())[1:] >= min_core) + 1
        if len(large) > 1:
            windows = ndimage.find_objects(pieces)
            return [(windows[index - 1], pieces[windows[index - 1]] == index, level) for index in large]
        if len(large) == 0:
            return []
    return []
