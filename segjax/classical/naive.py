"""Naive: hand-made features, a hierarchy of ever smaller cores, and their dilation back to the outline."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import watershed as flood

from segjax.classical.contrast import contrast, cut
from segjax.classical.features import HAND_MADE, hand_made_of, shape
from segjax.classical.stages import Stages
from segjax.classical.watershed import centres
from segjax.segmentation import Segmentation
from segjax.segmentation.split_touching import fill_holes

# The distance map is taken apart in at most this many levels, however thick the thickest part.
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
    """Segments by thresholds on hand-made features, and takes the foreground apart by erosion.

    The foreground is what `cut` leaves of the contrast, blurred by one pixel. Where a raised level of the
    distance map breaks a part in two or more, these are its children, and so on: the leaves of that tree are
    the cores of cells (`cores`), which grow back over the foreground, the nearest one first.

    Args:
      image: [H, W, C] any real type, raw or normalised.
      gamma: exponent of the contrast; below 1, dim cells stand out more.
      window: of `cut`, as `share`.
      share: see there.
      bright: of `contrast`, as `stained`.
      stained: see there.
      smoothing: standard deviation of the Gaussian that smooths the distance map, pixels.
      min_core: pixels of the smallest core that counts when a part breaks.
      min_area: instances of fewer pixels go.
      max_hole: holes of up to this many pixels are filled.

    Returns:
      The stages; without any contrast, an empty segmentation.

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
    distance = ndimage.gaussian_filter(shape.distance(foreground), smoothing) * foreground
    seeds = cores(distance, foreground, min_core=min_core)
    # Flooded in the order of the distance to the nearest core, all cores grow at once and stay in their part.
    away = ndimage.distance_transform_edt(seeds == 0) if seeds.any() else distance
    labels = flood(away, seeds, mask=foreground, connectivity=2)
    labels[np.bincount(labels.ravel())[labels] < min_area] = 0
    return Stages(
        named | {"distance": distance}, foreground, centres(seeds), Segmentation.from_labels(labels)
    )


def cores(distance: np.ndarray, foreground: np.ndarray, *, min_core: int) -> np.ndarray:
    """Finds the leaves of the component tree of a distance map.

    Args:
      distance: [H, W] float, pixels.
      foreground: [H, W] bool, the roots.
      min_core: when a component breaks, pieces of fewer pixels are not children.

    Returns:
      [H, W] int, 0 or the core, 1..N; every connected part of the foreground holds at least one.

    References:
      Salembier et al., https://doi.org/10.1109/83.663500 (component trees)
    """
    step = max(1.0, float(distance.max(initial=0)) / MAX_LEVELS)
    found = np.zeros(foreground.shape, np.int32)
    count = 0
    parts = label(foreground, connectivity=2)
    # Each: where a component lies, which pixels of that window it has, and the level at which it arose.
    waiting = [
        (place, parts[place] == index, 0.0)
        for index, place in enumerate(ndimage.find_objects(parts), start=1)
    ]
    while waiting:
        place, component, level = waiting.pop()
        heights = np.where(component, distance[place], -1.0)
        children = _break_up(heights, level, step, min_core)
        if not children:
            count += 1
            found[place][component] = count
            continue
        top, left = place[0].start, place[1].start
        for (rows, columns), piece, risen in children:
            window = (
                slice(top + rows.start, top + rows.stop),
                slice(left + columns.start, left + columns.stop),
            )
            waiting.append((window, piece, risen))
    return found


def _break_up(
    heights: np.ndarray, level: float, step: float, min_core: int
) -> list[tuple[tuple[slice, slice], np.ndarray, float]]:
    """The pieces into which a component falls at the first level at which there are two large enough."""
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
