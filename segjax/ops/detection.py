"""From what a network says of many boxes to the few that are handed on; all of one image."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from segjax.ops import boxes as box_ops
from segjax.ops.nms import nms
from segjax.typing import Array

# Of the four numbers that a box is described by: as in torchvision and the papers.
RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class Proposals(NamedTuple):
    """Where there may be objects, best first.

    Attributes:
      boxes: [P, 4] float32, pixels.
      scores: [P] float32, logits.
      valid: [P] bool.
    """

    boxes: jax.Array
    scores: jax.Array
    valid: jax.Array


class Detections(NamedTuple):
    """What was found, best first.

    Attributes:
      boxes: [D, 4] float32, pixels.
      classes: [D] int32, 1..K - 1.
      scores: [D] float32, probabilities.
      valid: [D] bool.
      dropped: [] int32, how many more were found than D, or than candidates were looked at.
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
    """Chooses the proposals of a region proposal network.

    Args:
      logits: of each level [A], that an anchor holds an object.
      deltas: of each level [A, 4], relative to the anchors.
      anchors: of each level [A, 4] float, pixels.
      size: `(height, width)` of the image without padding, to which boxes are clipped.
      pre_nms: boxes of each level that enter non-maximum suppression, those with the highest logits.
      post_nms: P, over all levels.
      iou_threshold: of the suppression among the boxes of a level.
      min_side: boxes that are narrower or lower are left out, pixels.

    Returns:
      The proposals.

    References:
      torchvision.models.detection.rpn.RegionProposalNetwork.filter_proposals.
    """
    levels = []
    for scores, of_level, start in zip(logits, deltas, anchors, strict=True):
        top, index = jax.lax.top_k(scores, min(pre_nms, len(scores)))
        boxes = box_ops.decode(of_level[index], jnp.asarray(start)[index], weights=RPN_WEIGHTS)
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
    """Chooses the detections among proposals that were given classes and better boxes.

    Args:
      probabilities: [P, K] float, of each class, background first.
      deltas: [P, K, 4] float, relative to the proposal, for each class.
      proposals: P of them.
      size: `(height, width)` of the image without padding, to which boxes are clipped.
      score_threshold: what is not above it is left out.
      iou_threshold: of non-maximum suppression among the boxes of a class.
      candidates: how many pairs of proposal and class enter the suppression, those with the highest scores.
      max_detections: D.
      min_side: boxes that are narrower or lower are left out, pixels.
      box_weights: of the deltas.

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
    not_looked_at = jnp.sum(eligible) - jnp.minimum(jnp.sum(eligible), candidates)
    dropped = not_looked_at + jnp.sum(kept) - jnp.sum(valid)
    return Detections(boxes, classes, jnp.where(valid, scores, 0), valid, dropped.astype(jnp.int32))


def _best(count: int, kept: Array, scores: Array, boxes: Array, *more: Array) -> tuple[jax.Array, ...]:
    """The `count` highest scores among what is kept, padded: boxes, scores, valid, and what else is given."""
    count_here = min(count, len(scores))
    ranked, index = jax.lax.top_k(jnp.where(kept, scores, -jnp.inf), count_here)
    valid = ~jnp.isneginf(ranked)
    found = [boxes[index], scores[index], valid, *(values[index] for values in more)]

    def pad(values: jax.Array) -> jax.Array:
        usable = valid.reshape(-1, *(1,) * (values.ndim - 1))
        values = jnp.where(usable, values, jnp.zeros_like(values))
        return jnp.pad(values, [(0, count - count_here)] + [(0, 0)] * (values.ndim - 1))

    return tuple(pad(values) for values in found)
