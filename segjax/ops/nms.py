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
      scores: [N] float. Ties are resolved by the lower index.
      valid: [N] bool. Padding is never kept and suppresses nothing.
      iou_threshold: boxes that overlap by exactly this much are both kept.
      classes: [N] int. If not None, boxes suppress only boxes of their own class.

    Returns:
      [N] bool, in the order of the input.

    References:
      torchvision.ops.nms, torchvision.ops.batched_nms (which shifts coordinates by class instead, and
      loses precision to it).
    """
    order = jnp.argsort(-scores, stable=True)
    classes = jnp.zeros(len(boxes), jnp.int32) if classes is None else classes
    ranked = jax.lax.stop_gradient(boxes)[order], valid[order], classes[order], jnp.float32(iou_threshold)
    kept = jax.lax.platform_dependent(*ranked, cpu=_one_by_one, default=_at_once)
    return jnp.zeros_like(kept).at[order].set(kept)


def _at_once(boxes: Array, valid: Array, classes: Array, iou_threshold: Array) -> jax.Array:
    """Suppresses sorted boxes in few steps, each over all boxes at once."""
    return suppress(_overlaps(boxes, boxes, classes, classes, iou_threshold), valid)


# Batches run sequentially: batched while loops would all run as long as the longest.
@jax.custom_batching.sequential_vmap
def _one_by_one(boxes: Array, valid: Array, classes: Array, iou_threshold: Array) -> jax.Array:
    """Like `_at_once`, but in many cheap steps, which suits a CPU. No [N, N] array is created."""
    count = len(boxes)
    positions = jnp.arange(count)

    def first_after(place: Array, keep: Array) -> jax.Array:
        return jnp.min(jnp.where(keep & (positions > place), positions, count))

    def remove(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        place, keep = state
        box, its_class = (jax.lax.dynamic_slice_in_dim(values, place, 1) for values in (boxes, classes))
        hit = _overlaps(box, boxes, its_class, classes, iou_threshold)[0]
        keep = keep & ~(hit & (positions > place))
        return first_after(place, keep), keep

    usable = jnp.asarray(valid, bool)
    start = first_after(jnp.int32(-1), usable), usable
    return jax.lax.while_loop(lambda state: state[0] < count, remove, start)[1]


def _overlaps(
    first: Array, second: Array, first_classes: Array, second_classes: Array, iou_threshold: Array
) -> jax.Array:
    same = first_classes[:, None] == second_classes[None, :]
    return same & (pairwise_iou(first, second) > iou_threshold)


def suppress(overlaps: Array, valid: Array) -> jax.Array:
    """Marks the items kept when each kept item, in order, removes all later ones that it overlaps.

    The greedy answer is the one solution of

        keep[j] = valid[j] and not any(keep[i] and overlaps[i, j] for i before j).

    Evaluating the right-hand side for all items at once, again and again from `keep = valid`, settles at
    least the next item of the order in each pass. The loop therefore ends, at the greedy answer; dense
    scenes of thousands of boxes take about ten passes, each one matrix-vector product.

    Args:
      overlaps: [N, N] bool; only the part above the diagonal is used.
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
