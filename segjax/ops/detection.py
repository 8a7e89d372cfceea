"""Decode, clip and suppress boxes: RPN proposals and final detections of one image."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from segjax.ops import boxes as box_ops
from segjax.ops.nms import nms
from segjax.settings import Count, Fraction, Settings
from segjax.typing import Array

# Weights of the four box deltas, as in torchvision and the papers.
RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Minimum width and height of a proposal and of a detection, pixels.
MIN_PROPOSAL_SIDE, MIN_DETECTION_SIDE = 1e-3, 1e-2


@dataclasses.dataclass(frozen=True)
class ProposeConfig(Settings):
    """Settings of `propose`.

    Attributes:
      pre_nms: number of top-scoring boxes per level that enter non-maximum suppression.
      post_nms: P, number of proposals over all levels.
      iou_threshold: IoU threshold of the suppression, applied per level.
    """

    pre_nms: Count = 1000
    post_nms: Count = 1000
    iou_threshold: Fraction = 0.7


@dataclasses.dataclass(frozen=True)
class DetectConfig(Settings):
    """Settings of `detect`.

    Attributes:
      score_threshold: detections must score above this.
      iou_threshold: IoU threshold of the suppression, applied per class.
      candidates: number of top-scoring (proposal, class) pairs that enter the suppression.
      max_detections: D, the maximum number of detections.
    """

    score_threshold: Fraction = 0.4
    iou_threshold: Fraction = 0.5
    candidates: Count = 2000
    max_detections: Count = 500


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
    config: ProposeConfig,
) -> Proposals:
    """Selects the proposals of a region proposal network.

    Args:
      logits: [A] objectness logits of each level; anchors with NaN make no proposal.
      deltas: [A, 4] box deltas of each level, relative to the anchors.
      anchors: [A, 4] float anchors of each level, pixels.
      size: `(height, width)` of the image without padding; boxes are clipped to it.
      config: numbers of boxes and the IoU threshold.

    References:
      torchvision.models.detection.rpn.RegionProposalNetwork.filter_proposals.
    """
    levels = []
    for scores, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
        # `top_k` ranks NaN first.
        scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
        top, index = jax.lax.top_k(scores, min(config.pre_nms, len(scores)))
        boxes = box_ops.decode(level_deltas[index], jnp.asarray(level_anchors)[index], weights=RPN_WEIGHTS)
        boxes = box_ops.clip(boxes, size)
        valid = box_ops.has_min_side(boxes, MIN_PROPOSAL_SIDE)
        levels.append((boxes, top, nms(boxes, top, valid, iou_threshold=config.iou_threshold)))
    boxes, scores, keep = (jnp.concatenate(parts) for parts in zip(*levels, strict=True))
    return Proposals(*_top(config.post_nms, keep, scores, boxes))


def detect(
    scores: Array,
    deltas: Array,
    proposals: Proposals,
    *,
    size: Array | tuple[float, float],
    config: DetectConfig,
) -> Detections:
    """Selects the detections from classified and refined proposals.

    Args:
      scores: [P, K] float class probabilities, background first; NaN makes no detection.
      deltas: [P, K, 4] float box deltas per class, relative to the proposals.
      proposals: the P proposals.
      size: `(height, width)` of the image without padding; boxes are clipped to it.
      config: thresholds and numbers of boxes.

    References:
      torchvision.models.detection.roi_heads.RoIHeads.postprocess_detections.
    """
    foreground = jnp.where(proposals.valid[:, None], scores[:, 1:], -1)
    eligible = foreground > config.score_threshold
    num_candidates = min(config.candidates, foreground.size)
    top, index = jax.lax.top_k(jnp.where(eligible, foreground, -1).reshape(-1), num_candidates)
    row, column = jnp.divmod(index, foreground.shape[1])
    boxes = box_ops.decode(deltas[row, column + 1], proposals.boxes[row], weights=HEAD_WEIGHTS)
    boxes = box_ops.clip(boxes, size)
    valid = (top > config.score_threshold) & box_ops.has_min_side(boxes, MIN_DETECTION_SIDE)
    classes = column.astype(jnp.int32) + 1
    keep = nms(boxes, top, valid, iou_threshold=config.iou_threshold, classes=classes)
    boxes, top, valid, classes = _top(config.max_detections, keep, top, boxes, classes)
    not_considered = jnp.sum(eligible) - jnp.minimum(jnp.sum(eligible), config.candidates)
    dropped = not_considered + jnp.sum(keep) - jnp.sum(valid)
    return Detections(boxes, classes, jnp.where(valid, top, 0), valid, dropped.astype(jnp.int32))


def _top(count: int, keep: Array, scores: Array, boxes: Array, *more: Array) -> tuple[jax.Array, ...]:
    """Returns boxes, scores, valid and `more` of the `count` best items in `keep`, padded with zeros."""
    size = min(count, len(scores))
    ranked, index = jax.lax.top_k(jnp.where(keep, scores, -jnp.inf), size)
    valid = ~jnp.isneginf(ranked)

    def pad(values: jax.Array) -> jax.Array:
        values = jnp.where(valid.reshape(-1, *(1,) * (values.ndim - 1)), values, jnp.zeros_like(values))
        return jnp.pad(values, [(0, count - size)] + [(0, 0)] * (values.ndim - 1))

    selected = [boxes[index], scores[index], valid, *(values[index] for values in more)]
    return tuple(map(pad, selected))
