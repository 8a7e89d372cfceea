"""Instance boundaries and the gaps between neighbouring instances of a label map."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from segjax.typing import Array

# Pixel neighbourhoods by connectivity: shared edge (1), or shared edge or corner (2).
NEIGHBOURS = {
    1: ((-1, 0), (0, -1), (0, 1), (1, 0)),
    2: ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)),
}


def boundaries(labels: Array, *, connectivity: int = 2, width: int = 1) -> Array:
    """Marks the inner boundary of every instance.

    A pixel of an instance is on the boundary if a pixel of another instance or of the background lies within
    `width` steps of it. The image border is not a boundary: an instance may continue beyond it.

    Args:
      labels: [H, W] int, 0 is background.
      connectivity: 1 for edge neighbours, 2 for edge and corner neighbours.
      width: width of the boundary, pixels.

    Returns:
      [H, W] bool.

    References:
      skimage.segmentation.find_boundaries with mode "inner", which corresponds to width 1.
    """
    inside = jnp.asarray(labels)
    for _ in range(width):  # erode every instance by one layer
        inside = jnp.where(_differs_from_a_neighbour(inside, connectivity), 0, inside)
    return (labels != 0) & (inside == 0)


def _differs_from_a_neighbour(labels: Array, connectivity: int) -> Array:
    height, width = labels.shape
    padded = jnp.pad(labels, 1, mode="edge")
    differs = jnp.zeros(labels.shape, bool)
    for down, right in NEIGHBOURS[connectivity]:
        differs |= padded[1 + down : 1 + down + height, 1 + right : 1 + right + width] != labels
    return differs


def near_two_instances(labels: Array, *, radius: int = 2) -> Array:
    """Marks pixels close to at least two instances, mainly the gaps between cells.

    Args:
      labels: [H, W] int, 0 is background.
      radius: radius of the square window, pixels; its side is `2 * radius + 1`.

    Returns:
      [H, W] bool.
    """
    labels = jnp.asarray(labels)
    largest = jnp.iinfo(labels.dtype).max
    highest = _window(labels, 0, jax.lax.max, radius)
    lowest = _window(jnp.where(labels == 0, largest, labels), largest, jax.lax.min, radius)
    return (lowest != largest) & (lowest < highest)


def _window(values: Array, outside: int, reduce: Callable[..., jax.Array], radius: int) -> Array:
    start = np.asarray(outside, values.dtype)
    for window in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        values = jax.lax.reduce_window(values, start, reduce, window, (1, 1), "SAME")
    return values
