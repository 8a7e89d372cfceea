"""Resampling at fractional coordinates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
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


def sample_inside(values: Array, labels: Array, coordinates: Array, own: Array) -> jax.Array:
    """Interpolates bilinearly between the pixels of one instance, without those of its neighbours.

    Args:
      values: [H, W] float.
      labels: [H, W] int.
      coordinates: [2, ...] float, rows and columns; pixel centres at integers.
      own: [...] int, the label of each result. At least one of the four pixels around it should have it.

    Returns:
      [...] float32; 0 where none of the four pixels has the label.
    """
    values, labels = jnp.asarray(values), jnp.asarray(labels)
    last = jnp.array(labels.shape).reshape(2, *[1] * (coordinates.ndim - 1)) - 1
    low = jnp.floor(coordinates)
    total = weights = jnp.zeros(coordinates.shape[1:])
    for offset in np.ndindex(2, 2):
        position = low + np.array(offset, np.float32).reshape(last.shape)
        row, column = jnp.clip(position.astype(jnp.int32), 0, last)
        weight = jnp.prod(1 - jnp.abs(coordinates - position), axis=0)
        weight = jnp.where(labels[row, column] == own, weight, 0)
        total, weights = total + weight * values[row, column], weights + weight
    return total / jnp.where(weights > 0, weights, 1)
