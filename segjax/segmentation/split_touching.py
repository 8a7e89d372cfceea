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
    max_hole: int = 0,
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
      max_hole: holes of up to this many pixels are filled first, unless `distance` is given.

    Returns:
      [H, W] int32 labels 1..N, 0 for background.

    Raises:
      InputError: if shapes differ, `distance` is not finite, or h <= 0.

    References:
      Soille, Morphological Image Analysis, chapter 6.3 (h-maxima) and 9 (watershed).
    """
    foreground = np.asarray(foreground, bool)
    if distance is None:
        foreground = fill_holes(foreground, max_hole)
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
    markers = peaks(distance, foreground, h) if seeds is None else _complete_seeds(seeds, foreground)
    labels = flood(-distance, markers, mask=foreground, connectivity=2)
    return remove_small(labels, min_area)


def background_distance(foreground: np.ndarray) -> np.ndarray:
    """The Euclidean distance of each pixel to the background, exact.

    Args:
      foreground: [H, W] bool. The image border does not count as background.

    Returns:
      [H, W] float64 in pixels, 0 in the background; 0 everywhere if there is no background.
    """
    foreground = np.asarray(foreground, bool)
    return np.zeros(foreground.shape) if foreground.all() else ndimage.distance_transform_edt(foreground)


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
    if h <= 0:
        raise InputError(f"h is the height of a peak and must be above 0, not {h}")
    if not foreground.any():
        return np.zeros(foreground.shape, int)
    background = distance[foreground].min() - 2 * h
    heights = np.pad(np.where(foreground, distance, background), 1, constant_values=background)
    plateaus = local_maxima(reconstruction(heights - h, heights), connectivity=2)[1:-1, 1:-1]
    return label(plateaus, connectivity=2)


def _complete_seeds(seeds: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Returns the seeds [H, W], plus one seed for each part of the foreground that has none."""
    parts = label(foreground, connectivity=2)
    seedless = np.bincount(parts.ravel(), weights=(seeds > 0).ravel()) == 0
    seedless[0] = False
    return np.where(seedless[parts], parts + seeds.max(), seeds)


def fill_holes(foreground: np.ndarray, max_hole: int) -> np.ndarray:
    """Fills holes of up to `max_hole` pixels; larger ones may be true background inside a ring of cells."""
    if max_hole <= 0:
        return foreground
    holes = label(ndimage.binary_fill_holes(foreground) & ~foreground, connectivity=1)
    small = np.bincount(holes.ravel()) <= max_hole
    small[0] = False
    return foreground | small[holes]
