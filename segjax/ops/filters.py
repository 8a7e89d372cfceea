"""Gaussian, derivative and box filters."""

import jax
import jax.numpy as jnp
import numpy as np

from segjax.typing import Array


def gaussian_blur(image: Array, sigma: Array | float) -> jax.Array:
    """Blurs an image with a Gaussian, reflected at the edges.

    The blur is one matrix product per axis. On patches this is faster than a convolution, and `sigma` may be
    traced. The Gaussian is not truncated. The cost is proportional to H W (H + W), too much for full slides.

    Args:
      image: [H, W, C] float.
      sigma: standard deviation, pixels; 0 returns the image unchanged.

    Returns:
      [H, W, C] float.

    References:
      scipy.ndimage.gaussian_filter with mode "reflect".
    """
    height, width, _ = image.shape
    rows, columns = _blur_matrix(height, sigma), _blur_matrix(width, sigma)
    return jnp.einsum("ih,jw,hwc->ijc", rows, columns, image, precision=jax.lax.Precision.HIGHEST)


def _blur_matrix(size: int, sigma: Array | float) -> jax.Array:
    """Returns [size, size]: row i holds the weights of all input pixels for output pixel i."""
    position = jnp.arange(size, dtype=jnp.float32)
    weights = jnp.zeros((size, size))
    variance = jnp.maximum(jnp.asarray(sigma, jnp.float32), 1e-3) ** 2
    for reflected in (position, -1 - position, 2 * size - 1 - position):
        weights += jnp.exp(-((position[:, None] - reflected[None, :]) ** 2) / (2 * variance))
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def gaussian_derivative(values: Array, sigma: float, order: tuple[int, int] = (0, 0)) -> jax.Array:
    """Filters a map [H, W] with a Gaussian, or with its derivatives of order 0, 1 or 2 along each axis.

    The filter sums shifted copies. For one channel, this is several times faster on CPU than a convolution.
    Unlike in `gaussian_blur`, the cost is linear in the number of pixels, and `sigma` is static.

    References:
      scipy.ndimage.gaussian_filter with mode "nearest".
    """
    radius = int(4 * sigma + 0.5)  # truncated at 4 standard deviations, as in SciPy
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    kernels = (kernel, kernel * offsets / sigma**2, kernel * (offsets**2 - sigma**2) / sigma**4)
    return correlate(correlate(values, kernels[order[0]], axis=0), kernels[order[1]], axis=1)


def box_mean(values: Array, size: int) -> jax.Array:
    """Returns the mean [H, W] in windows of `size` x `size` pixels; `size` is odd."""
    kernel = np.full(size, 1 / size)
    return correlate(correlate(values, kernel, axis=0), kernel, axis=1)


def correlate(values: Array, kernel: np.ndarray, *, axis: int) -> jax.Array:
    """Correlates a map [H, W], edge-padded, with a kernel of odd length along one axis."""
    values = jnp.asarray(values, jnp.float32)
    radius, size = len(kernel) // 2, values.shape[axis]
    padded = jnp.pad(values, [(radius, radius) if other == axis else (0, 0) for other in (0, 1)], mode="edge")
    total = jnp.zeros_like(values)
    for index, weight in enumerate(kernel):
        if weight:
            total += float(weight) * jax.lax.slice_in_dim(padded, index, index + size, axis=axis)
    return total
