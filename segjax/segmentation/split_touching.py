"""Splits touching instances: h-maxima of a distance map as seeds, then a watershed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed as flood

from segjax.errors import InputError
from segjax.segmentation.masks import remove_small


def split_touching(
    foreground: np.ndarray,
    distance: np.ndarray | None = None,
    *,
    seeds: np.ndarray | None = None,
    smoothing: float = 1.0,
    h: float = 0.75,
    min_area: int = 20,
) -> np.ndarray:
    """Splits a foreground into its instances, one for each peak of the distance map.

    A peak counts if it rises at least `h` above the saddle to a higher one. From the peaks, the watershed
    floods the distance map downhill to the border of the foreground; every connected part of it, with
    pixels that touch at corners connected, has at least one peak.

    Args:
      foreground: [H, W] bool.
      distance: [H, W] float, high in the middle of an instance, as a network may predict it; the Euclidean
        distance to the background in pixels if None. The image border does not count as background.
      seeds: [H, W] integer, 0 or the id of a seed: instances grow from these instead of from the peaks. A
        part of the foreground without a seed is one instance.
      smoothing: standard deviation of the Gaussian that smooths the distance, pixels. 0 for none.
      h: how far a peak must rise, in units of `distance`; above 0.
      min_area: instances of fewer pixels are removed.

    Returns:
      [H, W] int32 labels 1..N, 0 for background.

    Raises:
      InputError: if shapes differ, `distance` is not finite, or h <= 0.

    References:
      Soille, Morphological Image Analysis, chapter 6.3 (h-maxima) and 9 (watershed).
    """
    foreground = np.asarray(foreground, bool)
    if distance is None:
        distance = background_distance(foreground)
    distance = np.asarray(distance, np.float64)
    for name, value in (("distance", distance), ("seeds", seeds)):
        if value is not None and (value.shape != foreground.shape or not np.isfinite(value).all()):
            raise InputError(
                f"{name} must be finite and of the foreground's shape {foreground.shape}, not {value.shape}"
            )
    if not foreground.any():
        return np.zeros(foreground.shape, np.int32)
    if smoothing > 0:
        distance = ndimage.gaussian_filter(distance, smoothing)
    parts = label(foreground, connectivity=2)
    markers = _peaks(distance, parts, h) if seeds is None else _complete_seeds(seeds, parts)
    return remove_small(_flood(distance, parts, markers), min_area)


def background_distance(foreground: np.ndarray) -> np.ndarray:
    """The Euclidean distance of each pixel to the background, exact.

    Args:
      foreground: [H, W] bool. The image border does not count as background.

    Returns:
      [H, W] float64 in pixels, 0 in the background; 0 everywhere if there is no background.
    """
    foreground = np.asarray(foreground, bool)
    distance = np.zeros(foreground.shape)
    if foreground.all():
        return distance
    # Between two connected parts is background, so that the nearest pixel outside of a part is background.
    parts = label(foreground, connectivity=2)
    for part, box in enumerate(ndimage.find_objects(parts), start=1):
        window = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        inside = parts[window] == part
        distance[window][inside] = ndimage.distance_transform_edt(inside)[inside]
    return distance


def peaks(distance: np.ndarray, foreground: np.ndarray, h: float) -> np.ndarray:
    """Finds the h-maxima: regional maxima of the reconstruction of `distance - h` under `distance`.

    The background and the padding get a value below the foreground, so every connected part has a peak.

    Args:
      distance: [H, W] float.
      foreground: [H, W] bool.
      h: how far a peak rises, in units of `distance`; above 0.

    Returns:
      [H, W] int, 0 or the id of a peak, 1..N.
    """
    if not foreground.any():
        return np.zeros(foreground.shape, int)
    return _peaks(distance, label(foreground, connectivity=2), h)


def _peaks(distance: np.ndarray, parts: np.ndarray, h: float) -> np.ndarray:
    """Returns the ids [H, W] of the h-maxima of connected parts, whose ids 1..N are `parts` [H, W]."""
    if h <= 0:
        raise InputError(f"h is the height of a peak and must be above 0, not {h}")
    background = distance[parts > 0].min() - 2 * h
    heights = np.where(parts > 0, distance, background)
    maxima = label(_maxima(heights, background), connectivity=2)
    is_maximum = maxima > 0
    part_of = np.zeros(maxima.max() + 1, int)
    part_of[maxima[is_maximum]] = parts[is_maximum]
    has_several = np.bincount(part_of[1:], minlength=parts.max() + 1) > 1
    # The reconstruction of a part with one maximum is flat wherever it is at most `h` below the maximum.
    tops = np.full(len(has_several), -np.inf)
    tops[parts[is_maximum]] = heights[is_maximum]
    plateaus = (parts > 0) & ~has_several[parts] & (heights >= (tops - h)[parts])
    boxes = ndimage.find_objects(parts)
    for part in np.flatnonzero(has_several):
        box = boxes[part - 1]
        inside = np.where(parts[box] == part, distance[box], background)
        plateaus[box] |= _maxima(reconstruction(inside - h, inside), background - h)
    return label(plateaus, connectivity=2)


def _maxima(heights: np.ndarray, background: float) -> np.ndarray:
    """Returns the regional maxima [H, W] above the background, which also surrounds the image."""
    padded = np.pad(heights, 1, constant_values=background)
    return local_maxima(padded, connectivity=2)[1:-1, 1:-1]


def _complete_seeds(seeds: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Returns the seeds [H, W], plus one seed for each connected part that has none."""
    seedless = np.bincount(parts.ravel(), weights=(seeds > 0).ravel()) == 0
    seedless[0] = False
    return np.where(seedless[parts], parts + seeds.max(), seeds)


def _flood(distance: np.ndarray, parts: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """Returns the labels [H, W] of the watershed from the markers, of each connected part by itself."""
    is_marker = (markers > 0) & (parts > 0)
    least, most = np.full(parts.max() + 1, markers.max()), np.zeros(parts.max() + 1, markers.dtype)
    np.minimum.at(least, parts[is_marker], markers[is_marker])
    np.maximum.at(most, parts[is_marker], markers[is_marker])
    # All pixels of a part with one marker have its id.
    labels = most[parts]
    boxes = ndimage.find_objects(parts)
    for part in np.flatnonzero(least < most):
        box = boxes[part - 1]
        inside = parts[box] == part
        flooded = flood(-distance[box], markers[box] * inside, mask=inside, connectivity=2)
        labels[box][inside] = flooded[inside]
    return labels


def fill_holes(foreground: np.ndarray, max_hole: int) -> np.ndarray:
    """Fills holes of up to `max_hole` pixels; larger ones may be true background inside a ring of cells."""
    if max_hole <= 0:
        return foreground
    holes = label(ndimage.binary_fill_holes(foreground) & ~foreground, connectivity=1)
    small = np.bincount(holes.ravel()) <= max_hole
    small[0] = False
    return foreground | small[holes]
