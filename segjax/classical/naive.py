"""Naive method: threshold pixel features, erode to a hierarchy of cores, grow the cores back."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import watershed as flood

from segjax.classical.contrast import contrast, otsu_threshold
from segjax.classical.features import BASIC, basic
from segjax.classical.scale import at_scale
from segjax.classical.settings import Naive
from segjax.classical.splitting import centroids, smooth_distance
from segjax.classical.stages import Stages
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import remove_small
from segjax.segmentation.split_touching import fill_holes

# Maximum number of levels of the distance map.
MAX_LEVELS = 64


def naive(image: np.ndarray, settings: Naive = Naive()) -> Stages:
    """Segments by thresholding the blurred contrast and splitting the foreground by erosion.

    `otsu_threshold` thresholds the contrast, blurred with sigma 1. As the level of the distance map rises, a
    component breaks into pieces, its children in a tree. The leaves of this tree are the cores of the cells
    (`cores`). The cores grow back over the foreground: each pixel joins the nearest core of its component.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      settings: see `Naive`.

    Returns:
      The stages. The segmentation is empty if the image has no contrast.

    Raises:
      InputError: if the image cannot be used.
    """
    intensity = contrast(image, bright=settings.bright, stained=settings.stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    settings = at_scale(settings, intensity)
    named = dict(zip(BASIC, np.moveaxis(basic(intensity**settings.gamma), -1, 0), strict=True))
    foreground = otsu_threshold(named["gauss 1"], settings.window, settings.threshold_fraction)
    foreground = fill_holes(foreground, settings.max_hole)
    named["distance"] = distance = smooth_distance(foreground, settings.smoothing)
    seeds = cores(distance, foreground, min_core=settings.min_core)
    # Flooding by distance to the nearest core grows all cores at once, each within its own component.
    core_distance = ndimage.distance_transform_edt(seeds == 0) if seeds.any() else distance
    labels = flood(core_distance, seeds, mask=foreground, connectivity=2)
    segmentation = Segmentation.from_labels(remove_small(labels, settings.min_area))
    return Stages(named, foreground, centroids(seeds), segmentation)


def cores(distance: np.ndarray, foreground: np.ndarray, *, min_core: int) -> np.ndarray:
    """Finds the leaves of the component tree of a distance map.

    Args:
      distance: [H, W] float, pixels.
      foreground: [H, W] bool; its connected components are the roots of the tree.
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
    # Entries: output and distance in the window of a component, its mask, the level at which it appears.
    waiting = [
        (core_labels[window], distance[window], parts[window] == index, 0.0)
        for index, window in enumerate(ndimage.find_objects(parts), start=1)
    ]
    while waiting:
        output, heights, component, level = waiting.pop()
        children, level = _break_up(np.where(component, heights, -1.0), level, step, min_core)
        if not children:
            count += 1
            output[component] = count
        waiting += [(output[window], heights[window], piece, level) for window, piece in children]
    return core_labels


def _break_up(
    heights: np.ndarray, level: float, step: float, min_core: int
) -> tuple[list[tuple[tuple[slice, slice], np.ndarray]], float]:
    """Raises the level until there are two large pieces; returns their windows and masks, and the level."""
    highest = float(heights.max())
    while (level := level + step) < highest:
        pieces = label(heights > level, connectivity=2)
        large = np.flatnonzero(np.bincount(pieces.ravel())[1:] >= min_core)
        if len(large) > 1:
            windows = ndimage.find_objects(pieces)
            return [(windows[index], pieces[windows[index]] == index + 1) for index in large], level
        if len(large) == 0:
            break
    return [], level
