"""K-means clustering of the points of one example; a batch by vmap, or on CPU faster by jax.lax.map."""

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
      assignment: [P] int32, the nearest centre of each point, the lower index if two are as near.
      inertia: sum over valid points of the squared distance to the centre.
      steps: that were taken.
    """

    centres: jax.Array
    assignment: jax.Array
    inertia: jax.Array
    steps: jax.Array


def seed(key: Array, points: Array, valid: Array, *, num_clusters: int) -> jax.Array:
    """Draws centres that are far apart (k-means++): each next point by its squared distance to those drawn.

    Args:
      key: PRNG key.
      points: [P, F] float.
      valid: [P] bool, which points are not padding.
      num_clusters: K.

    Returns:
      [K, F] float32, valid points. Where fewer than K of them are distinct, some are drawn more than once.

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
    """The nearest of centres [K, F] for each point [P, F]: [P] int32."""
    # |x - c|^2 without |x|^2, the same for all centres.
    product = jnp.matmul(points, centres.T, precision=EXACT)
    return jnp.argmin(jnp.sum(centres**2, axis=1)[None] / 2 - product, axis=1).astype(jnp.int32)


def lloyd(
    points: Array, valid: Array, centres: Array, *, max_steps: int = 300, tolerance: float = 1e-4
) -> Clusters:
    """Moves centres to the means of the points nearest to them, until they stay.

    Args:
      points: [P, F] float.
      valid: [P] bool, which points are not padding.
      centres: [K, F] float, where to begin. One that loses all its points stays where it is.
      max_steps: at most as many steps are taken.
      tolerance: rest is when the squared shifts of all centres sum to at most this share of the features'
        mean variance, as in scikit-learn.

    Returns:
      The clusters.

    References:
      Lloyd, https://doi.org/10.1109/TIT.1982.1056489; sklearn.cluster.KMeans.
    """
    points, valid = jnp.asarray(points, jnp.float32), jnp.asarray(valid, bool)
    count = jnp.maximum(jnp.sum(valid), 1)
    # Near the origin float32 is finest, and the products above do not cancel.
    origin = jnp.sum(jnp.where(valid[:, None], points, 0), axis=0) / count
    points = jnp.where(valid[:, None], points - origin[None], 0)
    rest = tolerance * jnp.mean(jnp.sum(points**2, axis=0) / count)
    ids = jnp.arange(len(centres), dtype=jnp.int32)

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        centres, _, steps = state
        mine = (assign(points, centres)[:, None] == ids[None]) & valid[:, None]
        members = mine.astype(jnp.float32)
        sizes = jnp.sum(members, axis=0)
        sums = jnp.matmul(members.T, points, precision=EXACT)
        moved = jnp.where((sizes > 0)[:, None], sums / jnp.maximum(sizes, 1)[:, None], centres)
        return moved, jnp.sum((moved - centres) ** 2), steps + 1

    def going(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return (state[1] > rest) & (state[2] < max_steps)

    begin = (jnp.asarray(centres, jnp.float32) - origin[None], jnp.float32(jnp.inf), jnp.int32(0))
    centres, _, steps = jax.lax.while_loop(going, step, begin)
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
    """Clusters points from several seeds, side by side, and goes on from the clustering of least inertia.

    The seeds compete on a sample of the points, evenly spread; the best is then moved to rest among all.

    Args:
      key: PRNG key.
      points: [P, F] float.
      valid: [P] bool, which points are not padding.
      num_clusters: K.
      restarts: number of seeds.
      max_steps: of each restart, and again among all points.
      tolerance: see `lloyd`.
      sample: about how many points the seeds compete on, at most twice as many.

    Returns:
      The clusters. Where fewer than K points are distinct, some clusters are empty.
    """
    points, valid = jnp.asarray(points, jnp.float32), jnp.asarray(valid, bool)
    stride = max(1, len(points) // sample)
    some, usable = points[::stride], valid[::stride]
    keys = jax.random.split(key, restarts)
    begins = jax.vmap(functools.partial(seed, num_clusters=num_clusters), in_axes=(0, None, None))(
        keys, some, usable
    )
    run = functools.partial(lloyd, max_steps=max_steps, tolerance=tolerance)
    found = jax.vmap(run, in_axes=(None, None, 0))(some, usable, begins)
    best = jnp.argmin(found.inertia)
    if stride == 1:
        return Clusters(*(values[best] for values in found))
    return run(points, valid, found.centres[best])
