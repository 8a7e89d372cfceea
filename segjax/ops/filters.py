"""Gaussian blur."""

import jax
import jax.numpy as jnp

from segjax.typing import Array


def gaussian_blur(image: Array, sigma: Array | float) -> jax.Array:
    """Blurs an image with a Gaussian, reflected at the edges.

    Implemented as one matrix product per axis: faster than a convolution on patches, exact for every sigma,
    and `sigma` may be traced. The cost is H W (H + W), too much for full slides.

    Args:
      image: [H, W, C] float.
      sigma: standard deviation, pixels; 0 returns the image unchanged.

    Returns:
      [H, W, C] float.

    References:
      scipy.ndimage.gaussian_filter with mode "reflect".
    """
    height, width, _ = image.shape
    down, along = _blur_matrix(height, sigma), _blur_matrix(width, sigma)
    return jnp.einsum("ih,jw,hwc->ijc", down, along, image, precision=jax.lax.Precision.HIGHEST)


def _blur_matrix(size: int, sigma: Array | float) -> jax.Array:
    """Returns [size, size]: row i holds the weights of all input pixels for output pixel i."""
    place = jnp.arange(size, dtype=jnp.float32)
    weights = jnp.zeros((size, size))
    variance = jnp.maximum(jnp.asarray(sigma, jnp.float32), 1e-3) ** 2
    for reflected in (place, -1 - place, 2 * size - 1 - place):
        weights += jnp.exp(-((place[:, None] - reflected[None, :]) ** 2) / (2 * variance))
    return weights / jnp.sum(weights, axis=1, keepdims=True)
