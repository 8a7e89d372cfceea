"""Mean shift mode seeking, on point sets and on grids."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from segjax.errors import InputError
from segjax.typing import Array

# Block sizes of pairwise distances: 256 x 4096 floats are 4 MiB.
_STARTS = 256
_POINTS = 4096
# Truncation of the Gaussian, in standard deviations.
_CUT = 4


def mean_shift(
    points: Array,
    valid: Array,
    starts: Array,
    *,
    bandwidth: Array | float,
    max_steps: int = 300,
    tolerance: Array | float = 1e-3,
) -> jax.Array:
    """Moves each start to the mean of the points around it until convergence.

    The kernel is flat: all points within `bandwidth` have equal weight. A start without points in its window
    does not move. A step costs S P F; memory is bounded by computing distances in blocks.

    Args:
      points: [P, F] float.
      valid: [P] bool, which points are not padding.
      starts: [S, F] float.
      bandwidth: radius of the kernel, in units of the points.
      max_steps: maximum number of steps.
      tolerance: a start has converged after a step of at most this fraction of the bandwidth.

    Returns:
      [S, F] float32, final positions.

    References:
      Comaniciu and Meer, https://doi.org/10.1109/34.1000236; scikit-learn's MeanShift, which afterwards
      drops modes within one bandwidth of a more populous one.
    """
    points, starts = jnp.asarray(points, jnp.float32), jnp.asarray(starts, jnp.float32)
    # Floats are most precise near the origin.
    centre = jnp.mean(points, axis=0, where=jnp.asarray(valid)[:, None])
    centre = jnp.where(jnp.isfinite(centre), centre, 0)
    blocks = _blocks(points - centre[None], _POINTS), _blocks(jnp.asarray(valid, bool), _POINTS)
    settle = functools.partial(
        _settle, *blocks, bandwidth=jnp.asarray(bandwidth), max_steps=max_steps, tolerance=tolerance
    )
    ends = jax.lax.map(settle, _blocks(starts - centre[None], _STARTS))
    return ends.reshape(-1, starts.shape[1])[: len(starts)] + centre[None]


def _blocks(rows: jax.Array, size: int) -> jax.Array:
    """Splits rows [N, ...] into zero-padded blocks [ceil(N / size), size, ...]."""
    size = min(size, max(len(rows), 1))
    count = -(-len(rows) // size)
    padding = [(0, count * size - len(rows))] + [(0, 0)] * (rows.ndim - 1)
    return jnp.pad(rows, padding).reshape(count, size, *rows.shape[1:])


def _settle(
    points: jax.Array,
    valid: jax.Array,
    starts: jax.Array,
    *,
    bandwidth: jax.Array,
    max_steps: int,
    tolerance: Array | float,
) -> jax.Array:
    """Moves one block of starts [S, F] to its modes, given blocks of points [N, P, F]."""

    def gather(sums: tuple[jax.Array, jax.Array], block: tuple[jax.Array, jax.Array], at: jax.Array) -> Any:
        near = jnp.sum((at[:, None] - block[0][None]) ** 2, axis=-1) <= bandwidth**2
        near = (near & block[1][None]).astype(jnp.float32)
        total = jnp.matmul(near, block[0], precision=jax.lax.Precision.HIGHEST)
        return (sums[0] + total, sums[1] + jnp.sum(near, axis=1, keepdims=True)), None

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        at, moving, steps = state
        nothing = jnp.zeros_like(at), jnp.zeros_like(at[:, :1])
        (total, count), _ = jax.lax.scan(functools.partial(gather, at=at), nothing, (points, valid))
        mean = jnp.where(moving & (count > 0), total / jnp.maximum(count, 1), at)
        moved = jnp.linalg.norm(mean - at, axis=1, keepdims=True)
        return mean, moving & (moved > tolerance * bandwidth), steps + 1

    def going(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return jnp.any(state[1]) & (state[2] < max_steps)

    return jax.lax.while_loop(going, step, (starts, jnp.ones((len(starts), 1), bool), jnp.int32(0)))[0]


def grid_shift(weights: Array, *, bandwidth: float | Sequence[float]) -> jax.Array:
    """Returns the mean-shift step at every node of a weighted grid.

    The kernel is a Gaussian, cut along each axis at the next whole number of nodes above 4 standard
    deviations. So a step is the gradient of the logarithm of the blurred weights, times the variance: modes
    are the maxima of the blurred weights. The kernel is applied one axis after the other, at a cost of
    nodes times bandwidth. Weights beyond the edges are 0.

    Args:
      weights: [H, W] float, at least 0; or a grid of any number D of dimensions.
      bandwidth: standard deviation of the Gaussian, in nodes; or one for each axis. Not traced.

    Returns:
      [H, W, 2] float32, or [..., D]: the offset to the weighted mean, in nodes along each axis; 0 where no
      weight lies within the kernel.

    Raises:
      InputError: if a bandwidth is not above 0, or not one or D are given.

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
        there = jax.lax.dynamic_slice_in_dim(padded, offset + margin, values.shape[axis], axis)
        there = there * jnp.exp(-((offset / sigma) ** 2) / 2)
        return sums[0] + there, sums[1] + offset * there

    nothing = jnp.zeros_like(values)
    return jax.lax.fori_loop(-radius, radius + 1, add, (nothing, nothing))


@functools.partial(jax.jit, static_argnames="steps")
def follow(field: Array, starts: Array, *, steps: int, tolerance: Array | float = 0.0) -> jax.Array:
    """Moves starts along a field of steps, interpolated linearly between nodes.

    Args:
      field: [H, W, 2] float, the step at each node; or [..., D] on a grid of D dimensions.
      starts: [S, D] float, in nodes.
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
        there = jnp.clip(at + read(field, at), 0, last)
        return there, jnp.max(jnp.abs(there - at), initial=0), taken + 1

    def going(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return (state[1] > tolerance) & (state[2] < steps)

    state = jnp.asarray(starts, jnp.float32), jnp.float32(jnp.inf), jnp.int32(0)
    return jax.lax.while_loop(going, step, state)[0]
