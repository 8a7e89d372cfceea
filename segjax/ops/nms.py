"""Non-maximum suppression on static shapes, exact at every threshold."""

import jax
import jax.numpy as jnp

from segjax.ops.boxes import pairwise_iou
from segjax.typing import Array


def nms(
    boxes: Array,
    scores: Array,
    valid: Array,
    *,
    iou_threshold: float,
    classes: Array | None = None,
) -> jax.Array:
    """Marks the boxes that greedy non-maximum suppression keeps.

    Args:
      boxes: [N, 4] float, `(x0, y0, x1, y1)` in pixels.
      scores: [N] float. Of equal scores the lower index goes first.
      valid: [N] bool. Padding is never kept and suppresses nothing.
      iou_threshold: boxes that overlap by exactly this much are both kept.
      classes: [N] int. Where given, boxes suppress only boxes of their own class.

    Returns:
      [N] bool, in the order of the input.

    References:
      torchvision.ops.nms, torchvision.ops.batched_nms (which shifts coordinates by class instead, and
      loses precision to it).
    """
    order = jnp.argsort(-scores, stable=True)
    overlaps = pairwise_iou(boxes[order], boxes[order]) > iou_threshold  # [N, N]
    if classes is not None:
        overlaps &= classes[order][:, None] == classes[order][None, :]
    kept = suppress(overlaps, valid[order])
    return jnp.zeros_like(kept).at[order].set(kept)


def suppress(overlaps: Array, valid: Array) -> jax.Array:
    """Marks what is kept when each item, in order, removes all later ones that it overlaps.

    The greedy answer is the one solution of

        keep[j] = valid[j] and not any(keep[i] and overlaps[i, j] for i before j).

    Evaluating the right-hand side for all items at once, again and again from `keep = valid`, settles at
    least the next item of the order in each pass. The loop therefore ends, at the greedy answer; dense
    scenes of thousands of boxes take about ten passes, each one matrix-vector product.

    Args:
      overlaps: [N, N] bool; only what lies above the diagonal counts.
      valid: [N] bool.

    Returns:
      [N] bool.
    """
    before = jnp.triu(overlaps, k=1)
    usable = jnp.asarray(valid, bool)

    def settled(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        previous, keep = state
        return jnp.any(previous != keep)

    def settle(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        _, keep = state
        return keep, usable & ~jnp.any(keep[:, None] & before, axis=0)

    _, keep = jax.lax.while_loop(settled, settle, settle((usable, usable)))
    return keep
