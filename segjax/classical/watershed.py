"""The reference method: Otsu's threshold, then the watershed of the distance map.

Every other row of the comparison is read against this one. It knows nothing of cells but their
brightness and their roundness.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed as flood

from segjax.classical.contrast import contrast, otsu_foreground
from segjax.classical.stages import Stages
from segjax.errors import InputError
from segjax.segmentation import Segmentation


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
        distance to the background in pixels if None. At the border of the image a cell just goes on.
      seeds: [H, W] integer, 0 or the id of a seed: instances grow from these instead of from the peaks. A
        part of the foreground without a seed is one instance.
      smoothing: standard deviation of the Gaussian that smooths the distance, pixels. 0 for none.
      h: how far a peak must rise, in units of `distance`; above 0.
      min_area: instances of fewer pixels go.
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
        # Without any background there is no distance to it, and nothing that could be told apart.
        whole = foreground.all()
        distance = np.zeros(foreground.shape) if whole else ndimage.distance_transform_edt(foreground)
    distance = np.asarray(distance, np.float64)
    for name, given in (("distance", distance), ("seeds", seeds)):
        if given is not None and (given.shape != foreground.shape or not np.isfinite(given).all()):
            raise InputError(
                f"{name} must be finite and of the foreground's shape {foreground.shape}, not {given.shape}"
            )
    if not foreground.any():
        return np.zeros(foreground.shape, np.int32)
    if smoothing > 0:
        distance = ndimage.gaussian_filter(distance, smoothing)
    markers = peaks(distance, foreground, h) if seeds is None else _planted(seeds, foreground)
    labels = flood(-distance, markers, mask=foreground, connectivity=2)
    areas = np.bincount(labels.ravel())
    kept = areas >= min_area
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0)[labels].astype(np.int32)


def peaks(distance: np.ndarray, foreground: np.ndarray, h: float) -> np.ndarray:
    """Finds the h-maxima: the plateaus left when all peaks are cut by h and flooded back.

    A background below all of that, also around the image, leaves every part of the foreground at least one.

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


def _planted(seeds: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """[H, W] the seeds, and each part of the foreground that has none as a seed of its own."""
    parts = label(foreground, connectivity=2)
    bare = np.bincount(parts.ravel(), weights=(seeds > 0).ravel()) == 0
    bare[0] = False
    return np.where(bare[parts], parts + seeds.max(), seeds)


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
    small_share: float = 0.0,
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
      small_share: instances whose area is below this share of the typical area are of `small_class`; the
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
    classes = np.where(areas < small_share * weighted_median(areas, areas), small_class, 1)
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


def fill_holes(foreground: np.ndarray, max_hole: int) -> np.ndarray:
    """Fills what the foreground encloses, up to a size: a ring of cells encloses true background."""
    if max_hole <= 0:
        return foreground
    holes = label(ndimage.binary_fill_holes(foreground) & ~foreground, connectivity=1)
    small = np.bincount(holes.ravel()) <= max_hole
    small[0] = False
    return foreground | small[holes]
