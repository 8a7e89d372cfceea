"""Gaussian blur."""

import jax
import jax.numpy as jnp

from segjax.typing import Array


def gaussian_blur(image: Array, sigma: Array | float) -> jax.Array:
    """Blurs an image with a Gaussian, reflected at the edges.

    Along one axis a blur is a matrix, so that of an image is two products: on patches faster than a
    convolution, exact at every width, and `sigma` may be traced. It costs H W (H + W), so it is not for
    whole slides.

    Args:
      image: [H, W, C] float.
      sigma: standard deviation, pixels; 0 returns the image as it is.

    Returns:
      [H, W, C] float.

    References:
      scipy.ndimage.gaussian_filter with mode "reflect".
    """
    height, width, _ = image.shape
    down, along = _blur_matrix(height, sigma), _blur_matrix(width, sigma)
    return jnp.einsum("ih,jw,hwc->ijc", down, along, image, precision=jax.lax.Precision.HIGHEST)


def _blur_matrix(size: int, sigma: Array | float) -> jax.Array:
    """[size, size]: row i holds the weights of all pixels in the blurred pixel i."""
    place = jnp.arange(size, dtype=jnp.float32)
    weights = jnp.zeros((size, size))
    variance = jnp.maximum(jnp.asarray(sigma, jnp.float32), 1e-3) ** 2
    for reflected in (place, -1 - place, 2 * size - 1 - place):
        weights += jnp.exp(-((place[:, None] - reflected[None, :]) ** 2) / (2 * variance))
    return weights / jnp.sum(weights, axis=1, keepdims=True)
