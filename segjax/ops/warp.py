"""Resampling at fractional coordinates."""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from segjax.typing import Array


def sample(image: Array, coordinates: Array, *, order: int, fill: float | None = None) -> jax.Array:
    """Samples an image at fractional coordinates.

    Args:
      image: [H, W, C].
      coordinates: [2, ...] float, rows and columns; pixel centres at integers.
      order: 0 for the nearest pixel, 1 for bilinear interpolation.
      fill: value beyond the centres of the edge pixels. None to reflect the image there instead, without
        repeating the edge pixels.

    Returns:
      [..., C], with the dtype of the image.

    References:
      jax.scipy.ndimage.map_coordinates; here, all channels use the same indices and weights.
    """
    read = functools.partial(
        map_coordinates,
        coordinates=list(jnp.asarray(coordinates)),
        order=order,
        mode="mirror" if fill is None else "constant",
        cval=0.0 if fill is None else fill,
    )
    return jax.vmap(read, in_axes=-1, out_axes=-1)(jnp.asarray(image))
