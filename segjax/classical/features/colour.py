"""Colour spaces, as in scikit-image, for an image [H, W, 3] in 0..1, on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from segjax.typing import Array

# Optical densities of haematoxylin, eosin and DAB in red, green and blue.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
# Daylight (D65) as the standard observer (2 degrees) sees it.
WHITE = np.array([0.95047, 1.0, 1.08883])


def hsv(image: Array) -> jax.Array:
    """Hue, saturation and value.

    Args:
      image: [H, W, 3] float in 0..1.

    Returns:
      [H, W, 3] float32 in 0..1; the hue of a grey pixel is 0.

    References:
      Smith, https://doi.org/10.1145/965139.807361; skimage.color.rgb2hsv.
    """
    image = jnp.asarray(image, jnp.float32)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.max(image, axis=-1)
    spread = value - jnp.min(image, axis=-1)
    some = jnp.where(spread > 0, spread, 1)
    hue = jnp.where(
        blue == value,
        4 + (red - green) / some,
        jnp.where(green == value, 2 + (blue - red) / some, (green - blue) / some),
    )
    hue = jnp.where(spread > 0, (hue / 6) % 1, 0)
    return jnp.stack([hue, spread / jnp.where(value > 0, value, 1), value], axis=-1)


def lab(image: Array) -> jax.Array:
    """CIE L*a*b* under daylight (D65): approximately perceptually uniform.

    Args:
      image: [H, W, 3] float in 0..1, sRGB.

    Returns:
      [H, W, 3] float32: lightness 0..100, green to red, blue to yellow.

    References:
      CIE 15:2004; skimage.color.rgb2lab.
    """
    image = jnp.asarray(image, jnp.float32)
    linear = jnp.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    tristimulus = _mixed(linear, (XYZ / WHITE[:, None]).T)
    root = jnp.where(tristimulus > 0.008856, jnp.cbrt(tristimulus), 7.787 * tristimulus + 16 / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def hed(image: Array) -> jax.Array:
    """Densities of haematoxylin, eosin and DAB, by colour deconvolution.

    Args:
      image: [H, W, 3] float in 0..1, of stained tissue.

    Returns:
      [H, W, 3] float32, at least 0.

    References:
      Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution (2001);
      skimage.color.rgb2hed.
    """
    density = jnp.log(jnp.maximum(jnp.asarray(image, jnp.float32), 1e-6)) / np.log(1e-6)
    return jnp.maximum(_mixed(density, np.linalg.inv(STAINS)), 0)


def _mixed(image: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Multiplies each pixel of [H, W, 3] by a matrix [3, 3], at full precision on every device."""
    return jnp.matmul(image, jnp.asarray(matrix, jnp.float32), precision=jax.lax.Precision.HIGHEST)
