"""The reference method: Otsu's threshold, then the watershed of the distance map.

Every other row of the comparison is read against this one. It knows nothing of cells but their
brightness and their roundness.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segjax.classical.contrast import contrast, otsu_foreground
from segjax.classical.stages import Stages
from segjax.segmentation import Segmentation
from segjax.segmentation.split_touching import fill_holes, peaks, split_touching


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
    """Segments what stands out from the background by brightness, and splits it where it is waisted.

    `contrast` makes one map of the image, `otsu_foreground` cuts it and `split_touching` splits what is left.
    The defaults were tuned on the training images of MNFinder, whose nuclei are 20 to 50 pixels wide.

    Args:
      image: [H, W, C] any real type, raw or normalised.
      gamma: of `otsu_foreground`, as `sigma`, `window` and `share`.
      sigma: see there.
      window: see there.
      share: see there.
      bright: of `contrast`, as `stained`.
      stained: see there.
      smoothing: as `h`, `min_area` and `max_hole` it is that of `split_touching`.
      h: see there.
      min_area: see there.
      max_hole: see there.
      small_fraction: instances whose area is below this share of the typical area are of `small_class`; the
        rest, and with 0 all, are of class 1. The typical area is the one that splits the foreground in two
        halves: half of its pixels lie in instances at least as large. Debris hardly moves it.
      small_class: for example the class of micronuclei.

    Returns:
      The stages; without any contrast, an empty segmentation.

    Raises:
      InputError: if the image is not [H, W, C], has no pixel, or holds NaN or infinity.
    """
    intensity = contrast(image, bright=bright, stained=stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    foreground = otsu_foreground(intensity, sigma=sigma, gamma=gamma, window=window, share=share)
    foreground = fill_holes(foreground, max_hole)
    # Without any background there is no distance to it, and nothing that could be told apart.
    whole = foreground.all()
    distance = np.zeros(foreground.shape) if whole else ndimage.distance_transform_edt(foreground)
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
    """[N, 2] float `(y, x)`, the centres of gravity of markers [H, W] 1..N."""
    ids = np.arange(1, markers.max(initial=0) + 1)
    return np.array(ndimage.center_of_mass(markers > 0, markers, ids), float).reshape(-1, 2)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value at which half of the weight is reached, in rising order; 0 of nothing."""
    if not len(values):
        return 0.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
