"""Mean-shift mode seeking in the density of a weighted grid."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from segjax.errors import InputError
from segjax.typing import Array

# Truncation of the Gaussian, in standard deviations.
_CUT = 4


def grid_shift(weights: Array, *, bandwidth: float | Sequence[float]) -> jax.Array:
    """Returns the mean-shift step at every node of a weighted grid.

    The kernel is a Gaussian, truncated at 4 standard deviations (rounded up) along each axis. A step is the
    variance times the gradient of the log of the blurred weights, so modes are the maxima of the blurred
    weights. The kernel is separable; the cost is proportional to nodes times bandwidth. Weights beyond the
    edges are 0.

    Args:
      weights: [H, W] float, at least 0; or a grid of D dimensions.
      bandwidth: standard deviation of the Gaussian, in nodes, for all axes or for each. Not traced.

    Returns:
      [H, W, 2] float32, or [..., D]: the offset to the weighted mean, in nodes along each axis; 0 where no
      weight lies within the kernel.

    Raises:
      InputError: if a bandwidth is not above 0, or their number is neither 1 nor D.

    References:
      Comaniciu and Meer, https://doi.org/10.1109/34.1000236
    """
    weights = jnp.asarray(weights, jnp.float32)
    spread = [bandwidth] * weights.ndim if isinstance(bandwidth, (int, float)) else list(bandwidth)
    if len(spread) != weights.ndim or not all(0 < sigma < math.inf for sigma in spread):
        raise InputError(
            f"bandwidth must be above 0, one number or one for each of {weights.ndim} axes, not {bandwidth}"
        )
    # Margins are rounded up so that images with similar bandwidths share a compiled program.
    margins = tuple(-(-math.ceil(_CUT * sigma) // 16) * 16 for sigma in spread)
    return _ratio(weights, jnp.asarray(spread, jnp.float32), margins)


@functools.partial(jax.jit, static_argnums=2)
def _ratio(weights: jax.Array, spread: jax.Array, margins: tuple[int, ...]) -> jax.Array:
    total = weights
    moments: list[jax.Array] = []  # of the axes processed so far
    for axis, margin in enumerate(margins):
        moments = [_convolve(moment, spread[axis], axis, margin)[0] for moment in moments]
        total, moment = _convolve(total, spread[axis], axis, margin)
        moments.append(moment)
    some = total > 0
    return jnp.where(some[..., None], jnp.stack(moments, -1) / jnp.where(some, total, 1)[..., None], 0)


def _convolve(values: jax.Array, sigma: jax.Array, axis: int, margin: int) -> tuple[jax.Array, jax.Array]:
    """Convolves along an axis with a Gaussian, and with the Gaussian times the offset."""
    padded = jnp.pad(values, [(margin, margin) if other == axis else (0, 0) for other in range(values.ndim)])
    radius = jnp.ceil(_CUT * sigma).astype(jnp.int32)

    def add(offset: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        shifted = jax.lax.dynamic_slice_in_dim(padded, offset + margin, values.shape[axis], axis)
        shifted = shifted * jnp.exp(-((offset / sigma) ** 2) / 2)
        return sums[0] + shifted, sums[1] + offset * shifted

    zeros = jnp.zeros_like(values)
    return jax.lax.fori_loop(-radius, radius + 1, add, (zeros, zeros))


@functools.partial(jax.jit, static_argnames="steps")
def follow(field: Array, starts: Array, *, steps: int, tolerance: Array | float = 0.0) -> jax.Array:
    """Moves start positions along a field of steps, interpolated linearly between nodes.

    Args:
      field: [H, W, 2] float, the step at each node; or [..., D] for a grid of D dimensions.
      starts: [S, D] float, start positions, in nodes.
      steps: maximum number of steps.
      tolerance: stops when no start moves more than this along any axis, in nodes.

    Returns:
      [S, D] float32, final positions, clipped to the grid.
    """
    field = jnp.asarray(field)
    last = jnp.asarray(field.shape[:-1], jnp.float32)[None] - 1
    read = jax.vmap(lambda plane, at: map_coordinates(plane, list(at.T), 1, "nearest"), (-1, None), -1)

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        at, _, taken = state
        moved = jnp.clip(at + read(field, at), 0, last)
        return moved, jnp.max(jnp.abs(moved - at), initial=0), taken + 1

    def not_converged(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return (state[1] > tolerance) & (state[2] < steps)

    state = jnp.asarray(starts, jnp.float32), jnp.float32(jnp.inf), jnp.int32(0)
    return jax.lax.while_loop(not_converged, step, state)[0]
