"""Shape features: curvature and blobness."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.classical.features.texture import gaussian
from segjax.typing import Array


def curvature(values: Array, *, sigma: float = 2.0) -> jax.Array:
    """The curvature of the level line through each pixel; of a distance map, that of the outline.

    Args:
      values: [H, W] float.
      sigma: scale, pixels.

    Returns:
      [H, W] float32 in 1 / pixel, positive where a bright body is convex: 1 / r on a circle of radius r.
      0 where the map is flat; limited to 1.

    References:
      Sethian, Level Set Methods: the divergence of the normal.
    """
    x, y, xx, xy, yy = _derivatives(values, sigma)
    steep = x**2 + y**2
    bend = -(xx * y**2 - 2 * x * y * xy + yy * x**2)
    # Where the gradient is only rounding error, there is no level line.
    flat = steep <= 1e-8 * jnp.max(steep)
    return jnp.clip(jnp.where(flat, 0, bend / jnp.where(flat, 1, steep) ** 1.5), -1, 1)


def blobness(values: Array, *, sigma: float = 4.0) -> jax.Array:
    """The determinant of the Hessian: positive in blobs, negative in saddles, such as where two cells touch.

    Args:
      values: [H, W] float.
      sigma: scale, pixels.

    Returns:
      [H, W] float32, normalised by sigma**4.

    References:
      Lindeberg, https://doi.org/10.1023/A:1008045108935
    """
    _, _, xx, xy, yy = _derivatives(values, sigma)
    return sigma**4 * (xx * yy - xy**2)


def _derivatives(values: Array, sigma: float) -> tuple[jax.Array, ...]:
    """x, y, xx, xy, yy: central differences of the blurred map, each [H, W]."""
    padded = jnp.pad(gaussian(values, sigma), 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    west, east, north, south = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
    cross = (padded[2:, 2:] - padded[2:, :-2] - padded[:-2, 2:] + padded[:-2, :-2]) / 4
    return (
        (east - west) / 2,
        (south - north) / 2,
        east - 2 * middle + west,
        cross,
        south - 2 * middle + north,
    )
