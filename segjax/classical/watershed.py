"""Baseline method: Otsu threshold, then watershed of the distance map.

The other methods are compared with this one. It uses only the brightness and the roundness of cells.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segjax.classical.contrast import contrast, otsu_foreground
from segjax.classical.stages import Stages
from segjax.segmentation import Segmentation
from segjax.segmentation.split_touching import background_distance, fill_holes, peaks, split_touching


def watershed(
    image: np.ndarray,
    *,
    gamma: float = 0.3,
    sigma: float = 0.5,
    window: int = 0,
    share: float = 0.75,
    bright: bool | None = None,
    stained: bool | None = None,
    smoothing: float = 3.0,
    h: float = 1.0,
    min_area: int = 20,
    max_hole: int = 0,
    small_fraction: float = 0.0,
    small_class: int = 2,
) -> Stages:
    """Segments the foreground by brightness and splits it where it narrows.

    `contrast` reduces the image to one map, `otsu_foreground` thresholds it and `split_touching` splits the
    foreground.
    The defaults were tuned on the training images of MNFinder, whose nuclei are 20 to 50 pixels wide.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      gamma: exponent of the intensity, see `otsu_foreground`.
      sigma: standard deviation of the Gaussian before the threshold, pixels.
      window: side of the local-mean window of `cut`, pixels; 0 uses the global threshold.
      share: fraction of Otsu's threshold, see `cut`.
      bright: whether cells are brighter than the background; None decides automatically, see `contrast`.
      stained: whether the image shows stained tissue; None decides automatically, see `contrast`.
      smoothing: standard deviation of the Gaussian that smooths the distance map, pixels.
      h: height of the h-maxima used as seeds, pixels; see `peaks`.
      min_area: smallest instance to keep, pixels.
      max_hole: largest hole to fill, pixels.
      small_fraction: instances smaller than this fraction of the typical area get `small_class`, all others
        class 1. With 0, all get class 1. The typical area is the area-weighted median: half of the foreground
        lies in instances at least as large. Debris hardly affects it.
      small_class: class of small instances, for example micronuclei.

    Returns:
      The stages. The segmentation is empty if the image has no contrast.

    Raises:
      InputError: if the image is not [H, W, C], has no pixel, or holds NaN or infinity.
    """
    intensity = contrast(image, bright=bright, stained=stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    foreground = otsu_foreground(intensity, sigma=sigma, gamma=gamma, window=window, share=share)
    foreground = fill_holes(foreground, max_hole)
    distance = background_distance(foreground)
    smooth = ndimage.gaussian_filter(distance, smoothing)
    markers = peaks(smooth, foreground, h)
    labels = split_touching(foreground, distance, seeds=markers, smoothing=smoothing, min_area=min_area)
    areas = np.bincount(labels.ravel())[1:]
    classes = np.where(areas < small_fraction * weighted_median(areas, areas), small_class, 1)
    return Stages(
        {"contrast": intensity, "distance": smooth},
        foreground,
        centres(markers),
        Segmentation.from_labels(labels, classes=classes),
    )


def centres(markers: np.ndarray) -> np.ndarray:
    """Returns the centroids [N, 2] float `(y, x)` of markers [H, W] numbered 1..N."""
    ids = np.arange(1, markers.max(initial=0) + 1)
    return np.array(ndimage.center_of_mass(markers > 0, markers, ids), float).reshape(-1, 2)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted median of values [N] with weights [N]; 0 for empty input."""
    if not len(values):
        return 0.0
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, cumulative[-1] / 2)])
