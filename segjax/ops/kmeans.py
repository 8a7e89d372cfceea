"""K-means clustering of one set of points. For a batch, use vmap, or jax.lax.map, which is faster on CPU."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from segjax.typing import Array

EXACT = jax.lax.Precision.HIGHEST


class Clusters(NamedTuple):
    """A clustering.

    Attributes:
      centres: [K, F] float32.
      assignment: [P] int32, the nearest centre of each point, the lower index on ties.
      inertia: sum over valid points of the squared distance to the centre.
      steps: number of Lloyd iterations.
    """

    centres: jax.Array
    assignment: jax.Array
    inertia: jax.Array
    steps: jax.Array


def seed(key: Array, points: Array, valid: Array, *, num_clusters: int) -> jax.Array:
    """Draws initial centres by k-means++: proportionally to the squared distance to the nearest centre.

    Args:
      key: PRNG key.
      points: [P, F] float.
      valid: [P] bool, which points are not padding.
      num_clusters: number of centres, K.

    Returns:
      [K, F] float32, valid points. With fewer than K distinct points, some are drawn repeatedly.

    References:
      Arthur and Vassilvitskii, k-means++: the advantages of careful seeding (2007), without local trials.
    """
    points = jnp.asarray(points, jnp.float32)
    first, *keys = jax.random.split(key, num_clusters)
    usable = jnp.where(valid, 0.0, -jnp.inf)
    centre = points[jax.random.categorical(first, usable)]
    chosen, nearest = [centre], jnp.full(len(points), jnp.inf)
    for draw in keys:
        nearest = jnp.minimum(nearest, jnp.sum((points - centre[None]) ** 2, axis=1))
        distinct = jnp.any((nearest > 0) & valid)
        weights = jnp.where(distinct, jnp.log(nearest), 0.0) + usable
        centre = points[jax.random.categorical(draw, weights)]
        chosen.append(centre)
    return jnp.stack(chosen)


def assign(points: Array, centres: Array) -> jax.Array:
    """Returns the index [P] int32 of the nearest centre [K, F] of each point [P, F]."""
    # |x - c|^2 without |x|^2, which is the same for all centres.
    product = jnp.matmul(points, centres.T, precision=EXACT)
    return jnp.argmin(jnp.sum(centres**2, axis=1)[None] / 2 - product, axis=1).astype(jnp.int32)


def lloyd(
    points: Array, valid: Array, centres: Array, *, max_steps: int = 300, tolerance: float = 1e-4
) -> Clusters:
    """Runs Lloyd's algorithm until convergence.

    Args:
      points: [P, F] float.
      valid: [P] bool, which points are not padding.
      centres: [K, F] float, initial centres. A centre that loses all its points does not move.
      max_steps: maximum number of iterations.
      tolerance: converged when the sum of squared centre shifts is at most this fraction of the mean
        variance of the features, as in scikit-learn.

    Returns:
      The clusters.

    References:
      Lloyd, https://doi.org/10.1109/TIT.1982.1056489; sklearn.cluster.KMeans.
    """
    points, valid = jnp.asarray(points, jnp.float32), jnp.asarray(valid, bool)
    count = jnp.maximum(jnp.sum(valid), 1)
    # Centre the points: float32 is most precise near 0, and the products in `assign` do not cancel.
    origin = jnp.sum(jnp.where(valid[:, None], points, 0), axis=0) / count
    points = jnp.where(valid[:, None], points - origin[None], 0)
    threshold = tolerance * jnp.mean(jnp.sum(points**2, axis=0) / count)
    ids = jnp.arange(len(centres), dtype=jnp.int32)

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        centres, _, steps = state
        is_member = (assign(points, centres)[:, None] == ids[None]) & valid[:, None]
        members = is_member.astype(jnp.float32)
        sizes = jnp.sum(members, axis=0)
        sums = jnp.matmul(members.T, points, precision=EXACT)
        moved = jnp.where((sizes > 0)[:, None], sums / jnp.maximum(sizes, 1)[:, None], centres)
        return moved, jnp.sum((moved - centres) ** 2), steps + 1

    def not_converged(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return (state[1] > threshold) & (state[2] < max_steps)

    start = (jnp.asarray(centres, jnp.float32) - origin[None], jnp.float32(jnp.inf), jnp.int32(0))
    centres, _, steps = jax.lax.while_loop(not_converged, step, start)
    assignment = assign(points, centres)
    distances = jnp.sum((points - centres[assignment]) ** 2, axis=1)
    inertia = jnp.sum(jnp.where(valid, distances, 0))
    return Clusters(centres + origin[None], assignment, inertia, steps)


@functools.partial(jax.jit, static_argnames=("num_clusters", "restarts", "max_steps", "sample"))
def kmeans(
    key: Array,
    points: Array,
    valid: Array,
    *,
    num_clusters: int,
    restarts: int = 4,
    max_steps: int = 300,
    tolerance: float = 1e-4,
    sample: int = 2**14,
) -> Clusters:
    """Clusters points by k-means with several restarts and selects the result with the lowest inertia.

    The restarts run on an evenly strided sample of the points; the best one is then refined on all points.

    Args:
      key: PRNG key.
      points: [P, F] float.
      valid: [P] bool, which points are not padding.
      num_clusters: K.
      restarts: number of initialisations.
      max_steps: maximum number of iterations of each restart and of the refinement.
      tolerance: see `lloyd`.
      sample: approximate sample size; at most twice as many points are used.

    Returns:
      The clusters. With fewer than K distinct points, some clusters are empty.
    """
    points, valid = jnp.asarray(points, jnp.float32), jnp.asarray(valid, bool)
    stride = max(1, len(points) // sample)
    sampled, usable = points[::stride], valid[::stride]
    keys = jax.random.split(key, restarts)
    starts = jax.vmap(functools.partial(seed, num_clusters=num_clusters), in_axes=(0, None, None))(
        keys, sampled, usable
    )
    run = functools.partial(lloyd, max_steps=max_steps, tolerance=tolerance)
    candidates = jax.vmap(run, in_axes=(None, None, 0))(sampled, usable, starts)
    best = jnp.argmin(candidates.inertia)
    if stride == 1:
        return Clusters(*(values[best] for values in candidates))
    return run(points, valid, candidates.centres[best])
