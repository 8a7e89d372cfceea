"""One map in which cells are bright, whatever the image: fluorescence, bright field or stained tissue."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from segjax.errors import InputError

# In a stained section the typical pixel is bright and at least a little coloured. Right for all of 228 images
# of the 2018 Data Science Bowl, 36 of them stained; the palest has a saturation of 0.037.
STAINED_BRIGHTNESS = 0.5
STAINED_SATURATION = 0.03


def contrast(
    image: np.ndarray, *, bright: bool | None = None, stained: bool | None = None
) -> np.ndarray | None:
    """Reduces an image to how much each pixel looks like a cell, by brightness or by stain.

    The image's channels are averaged; of tissue stained with haematoxylin and eosin the density of
    haematoxylin, which binds to nuclei, is taken instead. The result is clipped to its 1st and 99.8th
    percentile and scaled to 0..1.

    Args:
      image: [H, W, C] any real type, raw or normalised.
      bright: whether cells are brighter than their background; None decides by what is rarer: in an image
        whose mean is above half of its range, the bright is the background. Of no effect on stained tissue.
      stained: whether the image shows stained tissue; None asks `is_stained`.

    Returns:
      [H, W] float32 in 0..1, cells bright; None where the image has no contrast at all.

    Raises:
      InputError: if the image is not [H, W, C], has no pixel, or holds NaN or infinity; or if it should be
        stained but has not three channels.

    References:
      Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution (2001).
    """
    image = np.asarray(image)
    if image.ndim != 3 or not image.size or not np.isfinite(image).all():
        raise InputError(f"the image must be finite numbers of [H, W, C], not {image.dtype} {image.shape}")
    if stained is None:
        stained = is_stained(image)
    elif stained and image.shape[-1] != 3:
        raise InputError(
            f"stained tissue has red, green and blue, but the image has {image.shape[-1]} channels"
        )
    if stained:
        density = rgb2hed(_unit_range(image))[..., 0].astype(np.float32)
        return stretch(ndimage.gaussian_filter(density, 1.0))
    intensity = stretch(image.astype(np.float32).mean(axis=-1))
    if intensity is not None and (bright is False or (bright is None and intensity.mean() > 0.5)):
        intensity = 1 - intensity
    return intensity


def is_stained(image: np.ndarray) -> bool:
    """Whether an image [H, W, C] looks like stained tissue: bright on the whole, and coloured."""
    if image.shape[-1] != 3:
        return False
    image = _unit_range(image)
    brightest = image.max(axis=-1)
    saturation = (brightest - image.min(axis=-1)) / np.maximum(brightest, 1e-6)
    return bool(np.median(brightest) > STAINED_BRIGHTNESS and np.median(saturation) > STAINED_SATURATION)


def stretch(intensity: np.ndarray) -> np.ndarray | None:
    """Clips a map [H, W] to its 1st and 99.8th percentile and scales it to 0..1; None if it is constant."""
    low, high = np.percentile(intensity, (1, 99.8))
    if low == high:  # a few bright spots on nothing: percentiles do not see them
        low, high = intensity.min(), intensity.max()
    if low == high:
        return None
    return np.clip((intensity - low) / (high - low), 0, 1).astype(np.float32)


def otsu_foreground(
    intensity: np.ndarray, *, sigma: float, gamma: float, window: int = 0, share: float = 1.0
) -> np.ndarray:
    """Cuts a map by `cut`, after a blur and a change of its gradation.

    On linear intensities (gamma 1), the spread among bright cells draws the threshold up into the dim ones;
    below 1, dim and bright ones are about equally far from the background.

    Args:
      intensity: [H, W] float in 0..1, cells bright.
      sigma: standard deviation of the Gaussian before the threshold, pixels.
      gamma: exponent of the intensity.
      window: of `cut`, as `share`.
      share: see there.

    Returns:
      [H, W] bool; nowhere True if nothing is left to tell apart.
    """
    blurred = np.maximum(ndimage.gaussian_filter(intensity, sigma), 0) ** gamma
    return cut(blurred, window=window, share=share)


def cut(values: np.ndarray, *, window: int = 0, share: float = 1.0) -> np.ndarray:
    """What is above Otsu's threshold, or above the mean of its surroundings and a share of the threshold.

    Args:
      values: [H, W] float, at least 0.
      window: side of the surroundings, pixels; 0 for the threshold alone.
      share: of the threshold, that a pixel brighter than its surroundings has to reach.

    Returns:
      [H, W] bool; nowhere True if all values are equal.

    References:
      Otsu, https://doi.org/10.1109/TSMC.1979.4310076
    """
    if values.min() == values.max():
        return np.zeros(values.shape, bool)
    level = threshold_otsu(values)
    found = values > level
    if window:
        surroundings = ndimage.uniform_filter(values, window, mode="nearest")
        found |= (values > surroundings) & (values > share * level)
    return found


def _unit_range(image: np.ndarray) -> np.ndarray:
    """[H, W, C] float32 in 0..1, by what its type or its brightest pixel calls white."""
    if np.issubdtype(image.dtype, np.integer):
        white = float(np.iinfo(image.dtype).max) if image.dtype == np.uint8 else float(max(image.max(), 1))
    else:
        white = max(float(image.max()), 1.0)
    return np.clip(image.astype(np.float32) / white, 0, 1)
