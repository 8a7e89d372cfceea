"""Anchor and RoI matching, and balanced sampling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from segjax.ops.boxes import pairwise_iou
from segjax.typing import Array

# State of a box in training.
IGNORED, NEGATIVE, POSITIVE = -1, 0, 1
# Number of boxes whose IoUs with all objects are in memory at once.
CHUNK = 2**12


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
    count = len(boxes)
    chunk = min(CHUNK, count)
    padded = jnp.pad(boxes, ((0, -count % chunk), (0, 0)))
    chunks = padded.reshape(-1, chunk, 4)

    def overlaps(part: jax.Array) -> jax.Array:
        return jnp.where(valid[None], pairwise_iou(part, truth), -1)

    def best_of_boxes(highest: jax.Array, part: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        iou = overlaps(part)
        return jnp.maximum(highest, iou.max(0)), (iou.max(1), jnp.argmax(iou, axis=1).astype(jnp.int32))

    # Best IoU of each object; best IoU and object of each box.
    highest, (iou, index) = jax.lax.scan(best_of_boxes, jnp.zeros(len(truth)), chunks)
    iou, index = iou.reshape(-1)[:count], index.reshape(-1)[:count]
    state = jnp.where(iou >= high, POSITIVE, jnp.where(iou < low, NEGATIVE, IGNORED))
    if low_quality:

        def is_best(part: jax.Array) -> jax.Array:
            iou = overlaps(part)
            return jnp.any((iou == highest[None]) & (highest > 0)[None], axis=1)

        best = jax.lax.map(is_best, chunks).reshape(-1)[:count]
        state = jnp.where(best, POSITIVE, state)
    state = jnp.where(jnp.isfinite(boxes).all(-1), state, IGNORED)
    return Matches(state.astype(jnp.int32), index)


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
