"""Instance boundaries and the gaps between neighbouring instances of a label map."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from segjax.typing import Array

# The neighbours of a pixel that share an edge or a corner with it.
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def boundaries(labels: Array, *, width: int = 1, ignored: Array | None = None) -> Array:
    """Marks the inner boundary of every instance.

    A pixel of an instance is on the boundary if a pixel of another instance or of the background lies within
    `width` steps of it; steps may be diagonal. The image border is not a boundary: an instance may continue
    beyond it.

    Args:
      labels: [H, W] int, 0 is background.
      width: width of the boundary, pixels.
      ignored: [H, W] bool, pixels that are unknown, as those beyond the image border; None for none.

    Returns:
      [H, W] bool.

    References:
      skimage.segmentation.find_boundaries with mode "inner", which corresponds to width 1.
    """
    inside = jnp.asarray(labels)
    known = jnp.ones(inside.shape, bool) if ignored is None else ~jnp.asarray(ignored)
    for _ in range(width):  # erode every instance by one layer
        inside = jnp.where(_differs_from_a_neighbour(inside, known), 0, inside)
    return (labels != 0) & (inside == 0)


def _differs_from_a_neighbour(labels: Array, known: Array) -> Array:
    height, width = labels.shape
    padded, known = jnp.pad(labels, 1, mode="edge"), jnp.pad(known, 1)
    differs = jnp.zeros(labels.shape, bool)
    for down, right in NEIGHBOURS:
        window = np.s_[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        differs |= (padded[window] != labels) & known[window]
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
