"""What detectors learn from: boxes that are drawn, what they are to say, and how far off they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from segjax.losses import mean_where, smooth_l1
from segjax.ops import boxes as box_ops
from segjax.ops.detection import HEAD_WEIGHTS, RPN_WEIGHTS, Proposals
from segjax.ops.matching import IGNORED, NEGATIVE, Sample, match, sample
from segjax.ops.roi_masks import crop_masks
from segjax.typing import IGNORE, Array

# Of smooth L1, in torchvision and Detectron.
BETA = 1 / 9


class SamplingConfig(NamedTuple):
    """How boxes are drawn to learn from.

    Attributes:
      high: a box holds an object from this IoU.
      low: and none below this one.
      batch: how many are drawn of an image.
      positive_fraction: of them, at most.
    """

    high: float
    low: float
    batch: int
    positive_fraction: float


class Targets(NamedTuple):
    """The objects of one image.

    Attributes:
      boxes: [N, 4] float32, pixels.
      classes: [N] int32.
      valid: [N] bool.
      labels: [H, W] int32, ids 1..N.
      ignore: [H, W] bool, not to be judged.
    """

    boxes: Array
    classes: Array
    valid: Array
    labels: Array
    ignore: Array


def make_targets(labels: Array, classes: Array, semantic: Array) -> Targets:
    """The objects of one image, from its label map [H, W], the classes [N] of ids, and those of pixels."""
    boxes, present = box_ops.boxes_from_labels(labels, capacity=len(classes))
    return Targets(boxes, classes, present & (classes > 0), labels, semantic == IGNORE)


def rpn_losses(outputs: Any, targets: Targets, keys: Array, drawing: SamplingConfig) -> dict[str, Array]:
    """What an RPN gets wrong: "objectness" and "proposals", of a batch.

    Args:
      outputs: of `RCNN.propose`.
      targets: of a batch.
      keys: one for each image.
      drawing: of the anchors; those that overlap an object most are positive, too.
    """
    logits, deltas, anchors = outputs
    anchors = jnp.concatenate(anchors)

    def of_image(logits: Array, deltas: Array, target: Targets, key: Array) -> tuple[Array, ...]:
        matches = match(
            anchors, target.boxes, target.valid, high=drawing.high, low=drawing.low, low_quality=True
        )
        state = _unless_ignored(matches.state, anchors, target.ignore)
        drawn = sample(key, state, count=drawing.batch, positive_fraction=drawing.positive_fraction)
        goal = drawn.positive.astype(jnp.float32)
        judged = optax.losses.sigmoid_binary_cross_entropy(logits[drawn.chosen], goal)
        wanted = box_ops.encode(
            target.boxes[matches.target[drawn.chosen]], anchors[drawn.chosen], weights=RPN_WEIGHTS
        )
        missed = smooth_l1(deltas[drawn.chosen], wanted, beta=BETA).sum(-1)
        return _sums(judged, missed, drawn)

    sums = jax.vmap(of_image)(jnp.concatenate(logits, axis=1), jnp.concatenate(deltas, axis=1), targets, keys)
    objectness, proposals = _means(sums)
    return {"objectness": objectness, "proposals": proposals}


def sample_rois(
    key: Array, proposals: Proposals, target: Targets, drawing: SamplingConfig
) -> tuple[Array, Array, Sample]:
    """Draws the RoIs [T, 4] of one image, the object [T] of each, and which of them are what."""
    # The objects themselves are among the candidates: early on, nothing else would be positive.
    boxes = jnp.concatenate([target.boxes, proposals.boxes])
    valid = jnp.concatenate([target.valid, proposals.valid])
    matches = match(boxes, target.boxes, target.valid, high=drawing.high, low=drawing.low)
    state = _unless_ignored(matches.state, boxes, target.ignore)
    state = jnp.where(valid, state, IGNORED)
    drawn = sample(key, state, count=drawing.batch, positive_fraction=drawing.positive_fraction)
    return boxes[drawn.chosen], matches.target[drawn.chosen], drawn


def roi_losses(
    outputs: tuple[Array, Array],
    rois: Array,
    matched: Array,
    drawn: Sample,
    targets: Targets,
    *,
    num_classes: int,
) -> dict[str, Array]:
    """What a box head gets wrong: "classes" and "boxes", of a batch.

    Args:
      outputs: of `RCNN.classify`.
      rois: [B, T, 4], from `sample_rois`, as the two that follow.
      matched: [B, T].
      drawn: of each image.
      targets: of the batch.
      num_classes: K, background included.
    """
    logits, deltas = outputs

    def of_image(
        logits: Array, deltas: Array, rois: Array, matched: Array, drawn: Sample, target: Targets
    ) -> tuple[Array, ...]:
        classes = jnp.where(drawn.positive, target.classes[matched], 0)
        judged = optax.losses.softmax_cross_entropy_with_integer_labels(logits, classes)
        own = jnp.einsum("tkd,tk->td", deltas, jax.nn.one_hot(classes, num_classes))
        wanted = box_ops.encode(target.boxes[matched], rois, weights=HEAD_WEIGHTS)
        missed = smooth_l1(own, wanted, beta=BETA).sum(-1)
        return _sums(judged, missed, drawn)

    sums = jax.vmap(of_image)(logits, deltas, rois, matched, drawn, targets)
    classes, boxes = _means(sums)
    return {"classes": classes, "boxes": boxes}


def mask_loss(
    logits: Array, rois: Array, matched: Array, positive: Array, targets: Targets, *, aligned: bool
) -> Array:
    """What a mask head gets wrong in the RoIs [B, T, 4] that hold an object; its logits are [B, T, M, M]."""
    bins = logits.shape[-1]
    goals = jax.vmap(lambda *roi: crop_masks(*roi, bins=bins, aligned=aligned))(
        targets.labels, matched + 1, rois
    )
    missed = optax.losses.sigmoid_binary_cross_entropy(logits, goals).mean((-2, -1))
    return mean_where(missed, positive)


def _unless_ignored(state: Array, boxes: Array, ignore: Array) -> jax.Array:
    """Of boxes that hold no object, those whose centre is not to be judged are ignored."""
    height, width = ignore.shape
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    column = jnp.clip(centres[:, 0].astype(jnp.int32), 0, width - 1)
    row = jnp.clip(centres[:, 1].astype(jnp.int32), 0, height - 1)
    return jnp.where((state == NEGATIVE) & ignore[row, column], IGNORED, state)


def recall(proposals: Proposals, target: Targets) -> tuple[Array, Array]:
    """How many objects have a proposal of IoU 0.5, and how many there are."""
    boxes = jnp.where(proposals.valid[:, None], proposals.boxes, 0)
    found = match(target.boxes, boxes, proposals.valid, high=0.5, low=0.5).state == 1
    return jnp.sum(found & target.valid), jnp.sum(target.valid)


def _sums(judged: Array, missed: Array, drawn: Sample) -> tuple[Array, ...]:
    """Of one image: the losses [S] of classes and, of what holds an object, of boxes; how many were drawn."""
    return (
        jnp.sum(jnp.where(drawn.valid, judged, 0)),
        jnp.sum(jnp.where(drawn.positive, missed, 0)),
        jnp.sum(drawn.valid),
    )


def _means(sums: tuple[Array, ...]) -> tuple[jax.Array, jax.Array]:
    """Of a batch: both losses for each box that was drawn."""
    judged, missed, count = (part.sum() for part in sums)
    return ratio(judged, count), ratio(missed, count)


def ratio(total: Array, count: Array) -> jax.Array:
    """A mean; 0 of nothing."""
    return jnp.divide(total, jnp.maximum(count, 1))
