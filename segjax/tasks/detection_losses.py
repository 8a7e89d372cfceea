"""RoI sampling, targets and losses of the detectors."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from segjax.losses.combine import mean_where
from segjax.losses.pixel import bounded, smooth_l1
from segjax.ops import boxes as box_ops
from segjax.ops.detection import HEAD_WEIGHTS, RPN_WEIGHTS, Proposals
from segjax.ops.matching import IGNORED, NEGATIVE, POSITIVE, Sample, match, sample
from segjax.ops.roi_masks import crop_masks
from segjax.tasks.detection_config import SamplingConfig
from segjax.typing import IGNORE, Array

# Transition point of smooth L1 in torchvision and Detectron.
BETA = 1 / 9


class Targets(NamedTuple):
    """The objects of one image.

    Attributes:
      boxes: [N, 4] float32, pixels.
      classes: [N] int32.
      valid: [N] bool.
      labels: [H, W] int32, ids 1..N.
      ignore: [H, W] bool, pixels that losses ignore.
    """

    boxes: Array
    classes: Array
    valid: Array
    labels: Array
    ignore: Array


def make_targets(labels: Array, classes: Array, semantic: Array) -> Targets:
    """Makes the targets from a label map [H, W], the class [N] of each id and the class map [H, W]."""
    boxes, present = box_ops.boxes_from_labels(labels, capacity=len(classes))
    return Targets(boxes, classes, present & (classes > 0), labels, semantic == IGNORE)


def rpn_losses(outputs: Any, targets: Targets, keys: Array, config: SamplingConfig) -> dict[str, Array]:
    """Returns the losses "objectness" and "proposals" of a batch.

    Args:
      outputs: result of `RCNN.rpn_outputs`.
      targets: targets of the batch.
      keys: [B] PRNG keys.
      config: sampling of the anchors.
    """
    logits, deltas, anchors = outputs
    anchors = jnp.concatenate(anchors)

    def sums_of_image(logits: Array, deltas: Array, target: Targets, key: Array) -> tuple[Array, ...]:
        matches = match(
            anchors, target.boxes, target.valid, high=config.high, low=config.low, low_quality=True
        )
        state = _ignore_centres(matches.state, anchors, target.ignore)
        sampled = sample(key, state, count=config.batch_size, positive_fraction=config.positive_fraction)
        index = sampled.indices
        class_loss = optax.losses.sigmoid_binary_cross_entropy(
            bounded(logits[index]), sampled.positive.astype(jnp.float32)
        )
        target_deltas = box_ops.encode(
            target.boxes[matches.target[index]], anchors[index], weights=RPN_WEIGHTS
        )
        box_loss = smooth_l1(deltas[index], target_deltas, beta=BETA).sum(-1)
        return _sums(class_loss, box_loss, sampled)

    sums = jax.vmap(sums_of_image)(
        jnp.concatenate(logits, axis=1), jnp.concatenate(deltas, axis=1), targets, keys
    )
    objectness, proposals = _means(sums)
    return {"objectness": objectness, "proposals": proposals}


def sample_rois(
    key: Array, proposals: Proposals, target: Targets, config: SamplingConfig
) -> tuple[Array, Array, Sample]:
    """Samples RoIs of one image; returns their boxes [T, 4], indices of their objects [T], and the sample."""
    # The true boxes are candidates, too: early in training, no proposal is positive.
    boxes = jnp.concatenate([target.boxes, proposals.boxes])
    valid = jnp.concatenate([target.valid, proposals.valid])
    matches = match(boxes, target.boxes, target.valid, high=config.high, low=config.low)
    state = _ignore_centres(matches.state, boxes, target.ignore)
    state = jnp.where(valid, state, IGNORED)
    sampled = sample(key, state, count=config.batch_size, positive_fraction=config.positive_fraction)
    return boxes[sampled.indices], matches.target[sampled.indices], sampled


def roi_losses(
    outputs: tuple[Array, Array],
    rois: Array,
    matched: Array,
    sampled: Sample,
    targets: Targets,
    *,
    num_classes: int,
) -> dict[str, Array]:
    """Returns the losses "classes" and "boxes" of a batch.

    Args:
      outputs: logits [B, T, K] and deltas [B, T, K, 4] of `RCNN.predict_boxes`.
      rois: [B, T, 4] boxes from `sample_rois`.
      matched: [B, T] index of the object of each RoI.
      sampled: which RoIs are positive and which are valid.
      targets: targets of the batch.
      num_classes: K, background included.
    """
    logits, deltas = outputs

    def sums_of_image(
        logits: Array, deltas: Array, rois: Array, matched: Array, sampled: Sample, target: Targets
    ) -> tuple[Array, ...]:
        classes = jnp.where(sampled.positive, target.classes[matched], 0)
        class_loss = optax.losses.softmax_cross_entropy_with_integer_labels(bounded(logits), classes)
        class_deltas = jnp.einsum("tkd,tk->td", deltas, jax.nn.one_hot(classes, num_classes))
        target_deltas = box_ops.encode(target.boxes[matched], rois, weights=HEAD_WEIGHTS)
        box_loss = smooth_l1(class_deltas, target_deltas, beta=BETA).sum(-1)
        return _sums(class_loss, box_loss, sampled)

    sums = jax.vmap(sums_of_image)(logits, deltas, rois, matched, sampled, targets)
    classes, boxes = _means(sums)
    return {"classes": classes, "boxes": boxes}


def mask_loss(
    logits: Array, rois: Array, matched: Array, positive: Array, targets: Targets, *, aligned: bool
) -> Array:
    """Returns the mean mask loss [] of positive RoIs.

    Args:
      logits: [B, T, M, M] mask logits for the class of each RoI.
      rois: [B, T, 4] boxes.
      matched: [B, T] index of the object of each RoI.
      positive: [B, T] bool.
      targets: targets of the batch.
      aligned: whether the RoIAlign of the mask head is aligned.
    """
    bins = logits.shape[-1]
    masks = jax.vmap(lambda *roi: crop_masks(*roi, bins=bins, aligned=aligned))(
        targets.labels, matched + 1, rois
    )
    loss = optax.losses.sigmoid_binary_cross_entropy(bounded(logits), masks).mean((-2, -1))
    return mean_where(loss, positive)


def recall(proposals: Proposals, target: Targets) -> tuple[Array, Array]:
    """Returns the number of objects with a proposal of IoU 0.5, and the number of objects."""
    boxes = jnp.where(proposals.valid[:, None], proposals.boxes, 0)
    state = match(target.boxes, boxes, proposals.valid, high=0.5, low=0.5).state
    return jnp.sum((state == POSITIVE) & target.valid), jnp.sum(target.valid)


def ratio(total: Array, count: Array) -> jax.Array:
    """Returns `total / count`, 0 if `count` is 0."""
    return jnp.divide(total, jnp.maximum(count, 1))


def _ignore_centres(state: Array, boxes: Array, ignore: Array) -> jax.Array:
    """Ignores negative boxes whose centre lies on an ignored pixel."""
    height, width = ignore.shape
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    column = jnp.clip(centres[:, 0].astype(jnp.int32), 0, width - 1)
    row = jnp.clip(centres[:, 1].astype(jnp.int32), 0, height - 1)
    return jnp.where((state == NEGATIVE) & ignore[row, column], IGNORED, state)


def _sums(class_loss: Array, box_loss: Array, sampled: Sample) -> tuple[Array, ...]:
    """Returns the sums of one image over valid and over positive boxes, and the number of valid boxes."""
    return (
        jnp.sum(jnp.where(sampled.valid, class_loss, 0)),
        jnp.sum(jnp.where(sampled.positive, box_loss, 0)),
        jnp.sum(sampled.valid),
    )


def _means(sums: tuple[Array, ...]) -> tuple[jax.Array, jax.Array]:
    """Returns both losses of a batch per sampled box."""
    class_loss, box_loss, count = (part.sum() for part in sums)
    return ratio(class_loss, count), ratio(box_loss, count)
