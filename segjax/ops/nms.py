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
    """Selects boxes by greedy non-maximum suppression.

    Args:
      boxes: [N, 4] float, `(x0, y0, x1, y1)` in pixels.
      scores: [N] float. Among equal scores, the lower index comes first.
      valid: [N] bool, False for padding, which is not selected and suppresses nothing. So are boxes that are
        not finite, and boxes whose score is NaN.
      iou_threshold: IoU above which the box with the lower score is suppressed.
      classes: [N] int. If not None, boxes suppress only boxes of the same class.

    Returns:
      [N] bool, True for the selected boxes, in the order of the input.

    References:
      torchvision.ops.nms, torchvision.ops.batched_nms (which shifts the coordinates of each class instead and
      so loses precision).
    """
    valid = valid & ~jnp.isnan(scores) & jnp.isfinite(boxes).all(-1)
    order = jnp.argsort(-scores, stable=True)
    classes = jnp.zeros(len(boxes), jnp.int32) if classes is None else classes
    ranked = jax.lax.stop_gradient(boxes)[order], valid[order], classes[order], jnp.float32(iou_threshold)
    keep = jax.lax.platform_dependent(*ranked, cpu=_sequential, default=_parallel)
    return jnp.zeros_like(keep).at[order].set(keep)


def _parallel(boxes: Array, valid: Array, classes: Array, iou_threshold: Array) -> jax.Array:
    """Suppresses sorted boxes in a few steps over all boxes."""
    return suppress(_overlaps(boxes, boxes, classes, classes, iou_threshold), valid)


# Batches run sequentially, because batched while loops all run as long as the longest.
@jax.custom_batching.sequential_vmap
def _sequential(boxes: Array, valid: Array, classes: Array, iou_threshold: Array) -> jax.Array:
    """Like `_parallel`, but in many cheap steps, which suits a CPU. No [N, N] array is created."""
    count = len(boxes)
    positions = jnp.arange(count)

    def first_after(position: Array, keep: Array) -> jax.Array:
        return jnp.min(jnp.where(keep & (positions > position), positions, count))

    def remove(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        position, keep = state
        box, box_class = (jax.lax.dynamic_slice_in_dim(values, position, 1) for values in (boxes, classes))
        overlaps = _overlaps(box, boxes, box_class, classes, iou_threshold)[0]
        keep = keep & ~(overlaps & (positions > position))
        return first_after(position, keep), keep

    usable = jnp.asarray(valid, bool)
    start = first_after(jnp.int32(-1), usable), usable
    return jax.lax.while_loop(lambda state: state[0] < count, remove, start)[1]


def _overlaps(
    first: Array, second: Array, first_classes: Array, second_classes: Array, iou_threshold: Array
) -> jax.Array:
    same = first_classes[:, None] == second_classes[None, :]
    return same & (pairwise_iou(first, second) > iou_threshold)


def suppress(overlaps: Array, valid: Array) -> jax.Array:
    """Goes through items in order; each remaining item removes all later items that it overlaps.

    The greedy result is the only solution of

        keep[j] = valid[j] and not any(keep[i] and overlaps[i, j] for i before j).

    It is computed by fixed-point iteration from `keep = valid`. Each pass over all items, a matrix-vector
    product, makes at least the next item final, so the loop ends with the greedy result. Dense scenes with
    thousands of boxes take about ten passes.

    Args:
      overlaps: [N, N] bool; only the part above the diagonal is used.
      valid: [N] bool.

    Returns:
      [N] bool, True for the items that remain.
    """
    before = jnp.triu(overlaps, k=1)
    usable = jnp.asarray(valid, bool)

    def changed(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        previous, keep = state
        return jnp.any(previous != keep)

    def iterate(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        _, keep = state
        return keep, usable & ~jnp.any(keep[:, None] & before, axis=0)

    _, keep = jax.lax.while_loop(changed, iterate, iterate((usable, usable)))
    return keep
