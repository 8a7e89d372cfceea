"""Mean-shift mode seeking among points."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from segjax.typing import Array

# Block sizes of pairwise distances: 256 x 4096 floats are 4 MiB.
_STARTS = 256
_POINTS = 4096


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
    does not move. The cost of a step is proportional to S P F. Computing distances in blocks limits memory.

    Args:
      points: [P, F] float.
      valid: [P] bool, which points are not padding.
      starts: [S, F] float, start positions.
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
        zeros = jnp.zeros_like(at), jnp.zeros_like(at[:, :1])
        (total, count), _ = jax.lax.scan(functools.partial(gather, at=at), zeros, (points, valid))
        mean = jnp.where(moving & (count > 0), total / jnp.maximum(count, 1), at)
        moved = jnp.linalg.norm(mean - at, axis=1, keepdims=True)
        return mean, moving & (moved > tolerance * bandwidth), steps + 1

    def not_converged(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return jnp.any(state[1]) & (state[2] < max_steps)

    return jax.lax.while_loop(not_converged, step, (starts, jnp.ones((len(starts), 1), bool), jnp.int32(0)))[
        0
    ]
