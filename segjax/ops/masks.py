"""Where instances of a label map end, and where they crowd."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from segjax.typing import Array

# The neighbours of a pixel: those that share an edge with it (1), or an edge or a corner (2).
NEIGHBOURS = {
    1: ((-1, 0), (0, -1), (0, 1), (1, 0)),
    2: ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)),
}


def boundaries(labels: Array, *, connectivity: int = 2, width: int = 1) -> Array:
    """Marks the rim of every instance, on its own side.

    A pixel of an instance belongs to the rim if a pixel of another instance or of the background lies within
    `width` steps of it. The edge of the image is no boundary: an instance may go on beyond it.

    Args:
      labels: [H, W] int, 0 is background.
      connectivity: 1 if a step leads to a pixel that shares an edge, 2 if it may share only a corner.
      width: of the rim, pixels.

    Returns:
      [H, W] bool.

    References:
      skimage.segmentation.find_boundaries with mode "inner", which is the case of width 1.
    """
    inside = jnp.asarray(labels)
    for _ in range(width):  # peel one layer after another off every instance
        inside = jnp.where(_differs_from_a_neighbour(inside, connectivity), 0, inside)
    return (labels != 0) & (inside == 0)


def _differs_from_a_neighbour(labels: Array, connectivity: int) -> Array:
    height, width = labels.shape
    padded = jnp.pad(labels, 1, mode="edge")
    differs = jnp.zeros(labels.shape, bool)
    for down, right in NEIGHBOURS[connectivity]:
        differs |= padded[1 + down : 1 + down + height, 1 + right : 1 + right + width] != labels
    return differs


def near_two_instances(labels: Array, *, reach: int = 2) -> Array:
    """Marks the pixels from which two instances or more are in reach, the gaps between cells above all.

    Args:
      labels: [H, W] int, 0 is background.
      reach: how many pixels a pixel looks up, down, left and right: its window is `2 * reach + 1` wide.

    Returns:
      [H, W] bool.
    """
    labels = jnp.asarray(labels)
    nothing = jnp.iinfo(labels.dtype).max
    highest = _window(labels, 0, jax.lax.max, reach)
    lowest = _window(jnp.where(labels == 0, nothing, labels), nothing, jax.lax.min, reach)
    return (lowest != nothing) & (lowest < highest)


def _window(values: Array, outside: int, of_two: Callable[..., jax.Array], reach: int) -> Array:
    start = np.asarray(outside, values.dtype)
    for window in ((2 * reach + 1, 1), (1, 2 * reach + 1)):
        values = jax.lax.reduce_window(values, start, of_two, window, (1, 1), "SAME")
    return values
