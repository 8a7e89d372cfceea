"""Contrast map with bright cells from fluorescence, bright-field or stained-tissue images."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from segjax.classical.settings import Foreground
from segjax.errors import InputError
from segjax.segmentation.split_touching import fill_holes

# Images with a brighter and more saturated median pixel count as stained. This is correct for all 228 images
# tested from the 2018 Data Science Bowl, 36 of them stained; the palest has a saturation of 0.037.
STAINED_BRIGHTNESS = 0.5
STAINED_SATURATION = 0.03


def contrast(
    image: np.ndarray, *, bright: bool | None = None, stained: bool | None = None
) -> np.ndarray | None:
    """Reduces an image to one map in which cells are bright.

    Channels are averaged. For tissue stained with haematoxylin and eosin, the density of haematoxylin, which
    binds to nuclei, is used instead. The result is clipped to its 1st and 99.8th percentile and scaled to
    0..1.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      bright: whether cells are brighter than the background. None assumes that cells cover the smaller area:
        cells are dark if the mean is above half of the range. No effect on stained tissue.
      stained: whether the image shows stained tissue; None calls `is_stained`.

    Returns:
      [H, W] float32 in 0..1, cells bright; None if the image has no contrast.

    Raises:
      InputError: if the image is not [H, W, C], has no pixel, or holds NaN or infinity; or if
        `stained` is set but the image does not have three channels.

    References:
      Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution (2001).
    """
    image = np.asarray(image)
    if image.ndim != 3 or not image.size:
        raise InputError(f"the image has the shape {image.shape}: give [H, W, C] with at least one pixel")
    if not np.isfinite(image).all():
        raise InputError("the image has pixels that are NaN or infinite: replace them by numbers")
    if stained is None:
        stained = is_stained(image)
    elif stained and image.shape[-1] != 3:
        raise InputError(
            f"stained tissue has red, green and blue, but the image has {image.shape[-1]} channels"
        )
    if stained:
        density = rgb2hed(unit_range(image))[..., 0].astype(np.float32)
        return stretch(ndimage.gaussian_filter(density, 1.0))
    intensity = stretch(image.astype(np.float32).mean(axis=-1))
    if intensity is not None and (bright is False or (bright is None and intensity.mean() > 0.5)):
        intensity = 1 - intensity
    return intensity


def is_stained(image: np.ndarray) -> bool:
    """Whether an image [H, W, C] looks like stained tissue: bright and coloured."""
    if image.shape[-1] != 3:
        return False
    image = unit_range(image)
    brightest = image.max(axis=-1)
    saturation = (brightest - image.min(axis=-1)) / np.maximum(brightest, 1e-6)
    return bool(np.median(brightest) > STAINED_BRIGHTNESS and np.median(saturation) > STAINED_SATURATION)


def stretch(intensity: np.ndarray) -> np.ndarray | None:
    """Clips a map [H, W] to its 1st and 99.8th percentile and scales it to 0..1; None if it is constant."""
    low, high = np.percentile(intensity, (1, 99.8))
    if low == high:  # the bright pixels are too few to affect the percentiles
        low, high = intensity.min(), intensity.max()
    if low == high:
        return None
    return np.clip((intensity - low) / (high - low), 0, 1).astype(np.float32)


def otsu_foreground(
    intensity: np.ndarray, settings: Foreground, *, sigma: float, window: int = 0, fraction: float = 1.0
) -> np.ndarray:
    """Thresholds a map by Otsu's method, after a Gaussian blur and a gamma correction, and fills its holes.

    On linear intensities (gamma 1), the variance among bright cells raises the threshold above dim cells.
    With gamma below 1, dim and bright cells are about equally far from the background.

    Args:
      intensity: [H, W] float in 0..1, cells bright.
      settings: `gamma` and `max_hole` are used.
      sigma: standard deviation of the Gaussian, pixels.
      window: see `otsu_threshold`.
      fraction: see `otsu_threshold`.

    Returns:
      [H, W] bool; all False if the blurred map is constant.
    """
    blurred = np.maximum(ndimage.gaussian_filter(intensity, sigma), 0) ** settings.gamma
    return fill_holes(otsu_threshold(blurred, window, fraction), settings.max_hole)


def otsu_threshold(values: np.ndarray, window: int, fraction: float) -> np.ndarray:
    """Marks pixels above Otsu's threshold, or above both their local mean and a fraction of the threshold.

    Args:
      values: [H, W] float, at least 0.
      window: side of the local-mean window, pixels; 0 uses the global threshold alone.
      fraction: fraction of the threshold that a pixel above its local mean must exceed.

    Returns:
      [H, W] bool; all False if all values are equal.

    References:
      Otsu, https://doi.org/10.1109/TSMC.1979.4310076
    """
    level = otsu_level(values)
    foreground = values > level
    if window:
        local_mean = ndimage.uniform_filter(values, window, mode="nearest")
        foreground |= (values > local_mean) & (values > fraction * level)
    return foreground


def otsu_level(values: np.ndarray) -> float:
    """Returns Otsu's threshold of values; infinity if all are equal."""
    return threshold_otsu(values) if values.min() < values.max() else np.inf


def unit_range(image: np.ndarray) -> np.ndarray:
    """Divides [H, W, C] by 255 (uint8) or else by its maximum, at least 1, and clips to float32 in 0..1."""
    if np.issubdtype(image.dtype, np.integer):
        white = float(np.iinfo(image.dtype).max) if image.dtype == np.uint8 else float(max(image.max(), 1))
    else:
        white = max(float(image.max()), 1.0)
    return np.clip(image.astype(np.float32) / white, 0, 1)
