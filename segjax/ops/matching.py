"""Anchor and RoI matching, and balanced sampling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from segjax.ops.boxes import pairwise_iou
from segjax.typing import Array

# State of a box in training.
IGNORED, NEGATIVE, POSITIVE = -1, 0, 1
# Number of objects whose IoUs with all boxes are in memory at once.
CHUNK = 64
_Three = tuple[jax.Array, jax.Array, jax.Array]


class Matches(NamedTuple):
    """Assignment of boxes to the objects of an image.

    Attributes:
      state: [A] int32, `IGNORED`, `NEGATIVE` or `POSITIVE`.
      target: [A] int32, the object with the highest IoU with each box; 0 where there is none.
    """

    state: jax.Array
    target: jax.Array


class Sample(NamedTuple):
    """A sample of boxes, positives first.

    Attributes:
      indices: [S] int32, indices into the boxes.
      positive: [S] bool, True for positive boxes.
      valid: [S] bool, False where there were not enough boxes.
    """

    indices: jax.Array
    positive: jax.Array
    valid: jax.Array


def match(
    boxes: Array,
    truth: Array,
    valid: Array,
    *,
    high: float,
    low: float,
    low_quality: bool = False,
) -> Matches:
    """Matches boxes to objects by IoU.

    Args:
      boxes: [A, 4] float, pixels; those that are not finite are ignored.
      truth: [N, 4] float, boxes of the objects.
      valid: [N] bool, False for padding.
      high: minimum IoU of a positive box.
      low: boxes below this IoU are negative; those between `low` and `high` are ignored.
      low_quality: whether the boxes with the highest nonzero IoU with an object are positive even if this
        IoU is below `high`. Their target is still the object with which they have the highest IoU.

    Returns:
      The matches. The [A, N] overlaps are computed in chunks and never stored in full.

    References:
      Ren et al., Faster R-CNN, section 3.1.2 (https://arxiv.org/abs/1506.01497);
      torchvision.models.detection._utils.Matcher.
    """
    boxes, truth = jax.lax.stop_gradient((boxes, truth))
    chunk = min(CHUNK, len(truth))
    padding = -len(truth) % chunk
    chunks = (
        jnp.pad(truth, ((0, padding), (0, 0))).reshape(-1, chunk, 4),
        jnp.pad(valid, (0, padding)).reshape(-1, chunk),
        jnp.arange(0, len(truth), chunk),
    )

    def add_objects(so_far: _Three, part: _Three) -> tuple[_Three, None]:
        (highest, target, is_best), (objects, is_object, start) = so_far, part
        # Boxes are the last axis, along which XLA vectorises. Without the barrier, it computes the overlaps
        # twice, and rounds them differently.
        iou = jax.lax.optimization_barrier(jnp.where(is_object[:, None], pairwise_iou(objects, boxes), -1))
        top, best = iou.max(0), iou.max(1)[:, None]
        first = jnp.min(jnp.where(iou == top[None], jnp.arange(chunk)[:, None], chunk), axis=0)
        target = jnp.where(top > highest, start + first, target)
        is_best |= jnp.any((iou == best) & (best > 0), axis=0)
        return (jnp.maximum(highest, top), target, is_best), None

    count = len(boxes)
    nothing = jnp.full(count, -1.0), jnp.zeros(count, jnp.int32), jnp.zeros(count, bool)
    (highest, target, is_best), _ = jax.lax.scan(add_objects, nothing, chunks)
    state = jnp.where(highest >= high, POSITIVE, jnp.where(highest < low, NEGATIVE, IGNORED))
    if low_quality:
        state = jnp.where(is_best, POSITIVE, state)
    state = jnp.where(jnp.isfinite(boxes).all(-1), state, IGNORED)
    return Matches(state.astype(jnp.int32), target)


def sample(key: Array, state: Array, *, count: int, positive_fraction: float) -> Sample:
    """Samples boxes for training: positives up to a fraction, the rest negatives.

    Args:
      key: PRNG key.
      state: [A] int, `IGNORED`, `NEGATIVE` or `POSITIVE`.
      count: S, the sample size; reduced to A if larger.
      positive_fraction: maximum fraction of positives.

    Returns:
      The sample, without replacement. Only the first `int(count * positive_fraction)` entries can be
      positive.

    References:
      torchvision.models.detection._utils.BalancedPositiveNegativeSampler.
    """
    count = min(count, len(state))
    max_positive = int(count * positive_fraction)
    noise = jax.random.uniform(key, state.shape)
    positive_noise, positives = jax.lax.top_k(jnp.where(state == POSITIVE, noise, -1), max(max_positive, 1))
    num_positive = jnp.minimum(jnp.sum(positive_noise >= 0), max_positive)
    negative_noise, negatives = jax.lax.top_k(jnp.where(state == NEGATIVE, noise, -1), count)
    index = jnp.arange(count)
    positive = index < num_positive
    rank = jnp.clip(index - num_positive, 0)
    boxes = jnp.where(positive, positives[jnp.minimum(index, len(positives) - 1)], negatives[rank])
    return Sample(boxes.astype(jnp.int32), positive, positive | (negative_noise[rank] >= 0))
