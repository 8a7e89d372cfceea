"""Pixel features for k-means: intensity at several scales, colour and texture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from skimage.color import rgb2hed, rgb2hsv, rgb2lab
from skimage.feature import local_binary_pattern
from skimage.filters import gabor_kernel

from segjax.classical.contrast import unit_range
from segjax.errors import InputError, choose
from segjax.ops.filters import box_mean, gaussian_derivative

# Images are padded to a multiple of this, to limit recompilation.
BLOCK = 128
BASIC = ("intensity", "gauss 1", "gauss 2", "gauss 4", "gradient", "LoG 2", "deviation 7")
FREQUENCIES = (0.1, 0.2)  # of the Gabor filters, in cycles per pixel
ANGLES = np.pi / 4 * np.arange(4)


class Feature(NamedTuple):
    """A pixel feature of one or more maps.

    Attributes:
      maps: name of each map.
      compute: function of an intensity [H, W] or, if `coloured`, of an image [H, W, 3] in 0..1. It returns
        the maps [H, W, F], or [H, W] for a single map.
      coloured: whether `compute` takes the image.
    """

    maps: tuple[str, ...]
    compute: Callable[[np.ndarray], np.ndarray]
    coloured: bool = False


def extract(image: np.ndarray, intensity: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Computes features of every pixel.

    Args:
      image: [H, W, C] image, any real dtype.
      intensity: [H, W] float in 0..1, contrast of the image.
      names: keys of `FEATURES`, in output order.

    Returns:
      [H, W, F] float32 maps, and their F names.

    Raises:
      InputError: if a name is unknown, or a colour feature is requested and the image lacks three channels.
    """
    maps: list[np.ndarray] = []
    labels: list[str] = []
    for name in names:
        feature = choose(FEATURES, "features", name)
        if feature.coloured and image.shape[-1] != 3:
            message = f"needs red, green and blue, but the image has {image.shape[-1]} channels"
            raise InputError(f"features={name!r} {message}", field="features")
        values = feature.compute(unit_range(image) if feature.coloured else intensity)
        maps.append(np.asarray(values, np.float32).reshape(*intensity.shape, -1))
        labels.extend(feature.maps)
    return np.concatenate(maps, axis=-1), labels


def basic(intensity: np.ndarray) -> np.ndarray:
    """Returns intensity, edges and texture at several scales.

    Args:
      intensity: [H, W] float.

    Returns:
      [H, W, 7] float32, in the order of `BASIC`: the map; blurred by 1, 2 and 4 pixels; the magnitude of
      the gradient at scale 1; the negative Laplacian of Gaussian at scale 2, normalised by scale and
      positive in bright blobs; the standard deviation in windows of 7 x 7.

    References:
      skimage.feature.multiscale_basic_features; Lindeberg, https://doi.org/10.1023/A:1008045108935
    """
    height, width = intensity.shape
    # The filters pad with edge values themselves, so this padding does not change the result.
    padded = np.pad(intensity, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    return np.asarray(_basic(padded))[:height, :width]


@jax.jit
def _basic(intensity: jax.Array) -> jax.Array:
    intensity = jnp.asarray(intensity, jnp.float32)
    maps = [intensity, *(gaussian_derivative(intensity, sigma) for sigma in (1.0, 2.0, 4.0))]
    down, right = (gaussian_derivative(intensity, 1.0, order) for order in ((1, 0), (0, 1)))
    maps.append(jnp.sqrt(down**2 + right**2))
    down, right = (gaussian_derivative(intensity, 2.0, order) for order in ((2, 0), (0, 2)))
    maps.append(-(2.0**2) * (down + right))
    # Mean square minus squared mean loses precision if the mean is large.
    centred = intensity - jnp.mean(intensity)
    mean = box_mean(centred, 7)
    maps.append(jnp.sqrt(jnp.maximum(box_mean(centred**2, 7) - mean**2, 0)))
    return jnp.stack(maps, axis=-1)


def gabor(intensity: np.ndarray) -> np.ndarray:
    """Returns the maximum magnitude [H, W, 2] over all angles of the Gabor filters of each frequency.

    References:
      Jain and Farrokhnia, https://doi.org/10.1016/0031-3203(91)90143-S; skimage.filters.gabor.
    """
    from scipy.signal import fftconvolve  # slow to import

    def magnitude(frequency: float, angle: float) -> np.ndarray:
        kernel = gabor_kernel(frequency, angle)
        rows, columns = (side // 2 for side in kernel.shape)
        padded = np.pad(intensity, ((rows, rows), (columns, columns)), mode="edge")
        return np.abs(fftconvolve(padded, kernel, "valid"))

    return np.stack([np.max([magnitude(f, angle) for angle in ANGLES], axis=0) for f in FREQUENCIES], axis=-1)


def binary_pattern(intensity: np.ndarray) -> np.ndarray:
    """Returns the rotation-invariant uniform local binary pattern [H, W] of eight neighbours, 0..9.

    References:
      Ojala et al., https://doi.org/10.1109/TPAMI.2002.1017623
    """
    return local_binary_pattern(np.round(255 * intensity).astype(np.uint8), 8, 1, "uniform")


FEATURES: dict[str, Feature] = {
    "basic": Feature(BASIC, basic),
    "gabor": Feature(tuple(f"Gabor {frequency}" for frequency in FREQUENCIES), gabor),
    "local_binary_pattern": Feature(("local binary pattern",), binary_pattern),
    "rgb": Feature(("red", "green", "blue"), np.asarray, coloured=True),
    "hsv": Feature(("hue", "saturation", "value"), rgb2hsv, coloured=True),
    "lab": Feature(("lightness", "green-red", "blue-yellow"), rgb2lab, coloured=True),
    "hed": Feature(("haematoxylin", "eosin", "DAB"), rgb2hed, coloured=True),
}
