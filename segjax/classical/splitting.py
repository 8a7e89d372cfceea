"""Distance maps and watershed splitting, shared by several classical methods."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segjax.classical.settings import PeakSplitting
from segjax.segmentation.split_touching import background_distance, peaks, split_touching


def smooth_distance(foreground: np.ndarray, smoothing: float) -> np.ndarray:
    """Returns the distance to the background [H, W] of a foreground [H, W], smoothed inside it."""
    return ndimage.gaussian_filter(background_distance(foreground), smoothing) * foreground


def circle_centres(distance: np.ndarray, *, min_radius: float) -> np.ndarray:
    """Marks the centres [H, W] of maximal inscribed circles, the local maxima of a distance map [H, W].

    Args:
      distance: the radius of the circle about each pixel, pixels.
      min_radius: smallest circle, pixels.
    """
    return (ndimage.maximum_filter(distance, 3) == distance) & (distance >= min_radius)


def split_at_peaks(
    distance: np.ndarray, foreground: np.ndarray, settings: PeakSplitting
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits a foreground by a watershed from the h-maxima of its smoothed distance map.

    Args:
      distance: [H, W] float, the distance to the background.
      foreground: [H, W] bool.
      settings: see `PeakSplitting`.

    Returns:
      [H, W] int32 labels; [N, 2] float seeds `(y, x)`, also of removed instances; and the smoothed distance.
    """
    smooth = ndimage.gaussian_filter(distance, settings.smoothing)
    markers = peaks(smooth, foreground, settings.h)
    labels = split_touching(foreground, smooth, seeds=markers, smoothing=0, min_area=settings.min_area)
    return labels, centroids(markers), smooth


def centroids(markers: np.ndarray) -> np.ndarray:
    """Returns the centroids [N, 2] float `(y, x)` of markers [H, W] numbered 1..N."""
    ids = np.arange(1, markers.max(initial=0) + 1)
    return np.array(ndimage.center_of_mass(markers > 0, markers, ids), float).reshape(-1, 2)
