"""Decode, clip and suppress boxes: RPN proposals and final detections of one image."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from segjax.ops import boxes as box_ops
from segjax.ops.nms import nms
from segjax.typing import Array

# Weights of the four box deltas, as in torchvision and the papers.
RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class Proposals(NamedTuple):
    """Region proposals, best first.

    Attributes:
      boxes: [P, 4] float32, pixels.
      scores: [P] float32, logits.
      valid: [P] bool.
    """

    boxes: jax.Array
    scores: jax.Array
    valid: jax.Array


class Detections(NamedTuple):
    """Detections, best first.

    Attributes:
      boxes: [D, 4] float32, pixels.
      classes: [D] int32, 1..K - 1.
      scores: [D] float32, probabilities.
      valid: [D] bool.
      dropped: [] int32, number of detections beyond D, or beyond the number of candidates.
    """

    boxes: jax.Array
    classes: jax.Array
    scores: jax.Array
    valid: jax.Array
    dropped: jax.Array


def propose(
    logits: Sequence[Array],
    deltas: Sequence[Array],
    anchors: Sequence[Array],
    *,
    size: Array | tuple[float, float],
    pre_nms: int,
    post_nms: int,
    iou_threshold: float = 0.7,
    min_side: float = 1e-3,
) -> Proposals:
    """Selects the proposals of a region proposal network.

    Args:
      logits: [A] objectness logits of each level.
      deltas: [A, 4] box deltas of each level, relative to the anchors.
      anchors: [A, 4] float anchors of each level, pixels.
      size: `(height, width)` of the image without padding; boxes are clipped to it.
      pre_nms: number of top-scoring boxes per level that enter non-maximum suppression.
      post_nms: P, number of proposals over all levels.
      iou_threshold: IoU threshold of the suppression, applied per level.
      min_side: minimum width and height of a box, pixels.

    Returns:
      The proposals.

    References:
      torchvision.models.detection.rpn.RegionProposalNetwork.filter_proposals.
    """
    levels = []
    for scores, level_deltas, start in zip(logits, deltas, anchors, strict=True):
        top, index = jax.lax.top_k(scores, min(pre_nms, len(scores)))
        boxes = box_ops.decode(level_deltas[index], jnp.asarray(start)[index], weights=RPN_WEIGHTS)
        boxes = box_ops.clip(boxes, size)
        valid = box_ops.has_min_side(boxes, min_side)
        levels.append((boxes, top, nms(boxes, top, valid, iou_threshold=iou_threshold)))
    boxes, scores, kept = (jnp.concatenate(parts) for parts in zip(*levels, strict=True))
    return Proposals(*_best(post_nms, kept, scores, boxes))


def detect(
    probabilities: Array,
    deltas: Array,
    proposals: Proposals,
    *,
    size: Array | tuple[float, float],
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    candidates: int,
    max_detections: int,
    min_side: float = 1e-2,
    box_weights: tuple[float, float, float, float] = HEAD_WEIGHTS,
) -> Detections:
    """Selects the detections from classified and refined proposals.

    Args:
      probabilities: [P, K] float class probabilities, background first.
      deltas: [P, K, 4] float box deltas per class, relative to the proposals.
      proposals: the P proposals.
      size: `(height, width)` of the image without padding; boxes are clipped to it.
      score_threshold: detections must score above this.
      iou_threshold: IoU threshold of the suppression, applied per class.
      candidates: number of top-scoring (proposal, class) pairs that enter the suppression.
      max_detections: D, the maximum number of detections.
      min_side: minimum width and height of a box, pixels.
      box_weights: weights of the four deltas, see `boxes.encode`.

    Returns:
      The detections.

    References:
      torchvision.models.detection.roi_heads.RoIHeads.postprocess_detections.
    """
    num_classes = probabilities.shape[-1]
    foreground = jnp.where(proposals.valid[:, None], probabilities[:, 1:], -1)
    eligible = foreground > score_threshold
    scores, index = jax.lax.top_k(
        jnp.where(eligible, foreground, -1).reshape(-1), min(candidates, foreground.size)
    )
    row, column = jnp.divmod(index, num_classes - 1)
    boxes = box_ops.decode(deltas[row, column + 1], proposals.boxes[row], weights=box_weights)
    boxes = box_ops.clip(boxes, size)
    valid = (scores > score_threshold) & box_ops.has_min_side(boxes, min_side)
    classes = column.astype(jnp.int32) + 1
    kept = nms(boxes, scores, valid, iou_threshold=iou_threshold, classes=classes)
    boxes, scores, valid, classes = _best(max_detections, kept, scores, boxes, classes)
    not_considered = jnp.sum(eligible) - jnp.minimum(jnp.sum(eligible), candidates)
    dropped = not_considered + jnp.sum(kept) - jnp.sum(valid)
    return Detections(boxes, classes, jnp.where(valid, scores, 0), valid, dropped.astype(jnp.int32))


def _best(count: int, kept: Array, scores: Array, boxes: Array, *more: Array) -> tuple[jax.Array, ...]:
    """Returns boxes, scores, valid and `more` of the `count` highest-scoring kept items, padded."""
    count_here = min(count, len(scores))
    ranked, index = jax.lax.top_k(jnp.where(kept, scores, -jnp.inf), count_here)
    valid = ~jnp.isneginf(ranked)
    best = [boxes[index], scores[index], valid, *(values[index] for values in more)]

    def pad(values: jax.Array) -> jax.Array:
        usable = valid.reshape(-1, *(1,) * (values.ndim - 1))
        values = jnp.where(usable, values, jnp.zeros_like(values))
        return jnp.pad(values, [(0, count - count_here)] + [(0, 0)] * (values.ndim - 1))

    return tuple(pad(values) for values in best)
