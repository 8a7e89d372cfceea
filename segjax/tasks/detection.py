"""Objects one by one: proposals, a class and a better box for each, and in Mask R-CNN its pixels."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import InputError
from segjax.models.layers import frozen
from segjax.ops import boxes as box_ops
from segjax.ops.detection import Detections, Proposals, detect, propose
from segjax.ops.nms import suppress
from segjax.ops.roi_masks import pairwise_mask_iou
from segjax.segmentation import Segmentation
from segjax.segmentation.paste_masks import paste_masks
from segjax.tasks.base import Task
from segjax.tasks.detection_losses import (
    SamplingConfig,
    make_targets,
    mask_loss,
    ratio,
    recall,
    roi_losses,
    rpn_losses,
    sample_rois,
)
from segjax.typing import Array, Batch, Model, Outputs, Params

# Crops that R-CNN encodes at once when it predicts.
CROPS = 32
SUPPRESSION = ("boxes", "masks")


class Detector(Model, Protocol):
    """What a model of the R-CNN family has beside `init` and `apply`; a part that it lacks is None."""

    backbone: Any
    rpn: Any
    mask_head: Any


def make_instance(
    model: Detector,
    *,
    num_classes: int,
    pre_nms: int = 1000,
    post_nms: int = 1000,
    rpn_nms: float = 0.7,
    rpn_batch: int = 256,
    rpn_positive_fraction: float = 0.5,
    rpn_high: float = 0.7,
    rpn_low: float = 0.3,
    roi_batch: int = 256,
    roi_positive_fraction: float = 0.25,
    roi_high: float = 0.5,
    roi_low: float = 0.5,
    score_threshold: float = 0.05,
    suppression: str = "boxes",
    nms: float = 0.5,
    mask_nms: float = 0.3,
    candidates: int = 2000,
    max_detections: int = 500,
    mask_threshold: float = 0.5,
    min_area: int = 1,
    weights: Mapping[str, float] | None = None,
    aligned: bool = False,
    margins: bool = False,
) -> Task:
    """Makes the task.

    Args:
      model: of `segjax.models.detectors`.
      num_classes: K, background included.
      pre_nms: proposals of each map that enter non-maximum suppression.
      post_nms: proposals of an image that are handed on.
      rpn_nms: IoU above which proposals of a map suppress each other.
      rpn_batch: anchors of an image that the RPN learns from at a time.
      rpn_positive_fraction: of them, at most.
      rpn_high: an anchor holds an object from this IoU; and where no other overlaps the object more.
      rpn_low: an anchor holds none below this IoU.
      roi_batch: RoIs of an image that the heads learn from at a time.
      roi_positive_fraction: of them, at most; Mask R-CNN draws as many masks.
      roi_high: a RoI holds an object from this IoU.
      roi_low: and none below this one.
      score_threshold: detections with a lower score are dropped.
      suppression: `boxes`, or `masks` to suppress by the overlap of masks as well.
      nms: IoU above which boxes of a class suppress each other.
      mask_nms: IoU above which masks do.
      candidates: pairs of proposal and class that enter the suppression.
      max_detections: D, in an image or tile; what is beyond is counted, see `Detections`.
      mask_threshold: probability from which a pixel belongs to an object.
      min_area: objects of fewer visible pixels are dropped.
      weights: of the terms of the loss, by name; 1 where not given.
      aligned: of the masks to be learned, as of the model's RoIAlign.
      margins: whether, in prediction, logits are the margins of one SVM for each class, which know nothing of
        each other; scores are their logistic functions then.

    Returns:
      The task. Its batches have "classes" [B, N], the class of each id in "labels", 0 where there is none,
      and, if the model has no RPN, "proposals" [B, P, 4] and "proposals_valid" [B, P]. `predict` takes
      `size`, `(height, width)` without padding, and `proposals` likewise; it gives `Detections` by name, with
      "masks" [B, D, M, M], probabilities, if the model draws them.

    Raises:
      InputError: if a name or number is not possible.

    References:
      torchvision.models.detection: rpn.py, roi_heads.py. Unlike there, an object that no anchor overlaps
      makes no anchor positive.
    """
    if suppression not in SUPPRESSION:
        raise InputError(
            f"config.task.suppression={suppression!r} is unknown: choose one of {', '.join(SUPPRESSION)}"
        )
    if suppression == "masks" and model.mask_head is None:
        raise InputError("config.task.suppression='masks' needs masks: choose boxes, or method=mask_r_cnn")
    scales = dict(weights or {})
    names = {"objectness", "proposals", "classes", "boxes", "masks"}
    if unknown := set(scales) - names:
        raise InputError(f"the loss has no term {unknown.pop()!r}: it has {', '.join(sorted(names))}")
    num_masks = max(int(roi_batch * roi_positive_fraction), 1)
    of_anchors = SamplingConfig(rpn_high, rpn_low, rpn_batch, rpn_positive_fraction)
    of_proposals = SamplingConfig(roi_high, roi_low, roi_batch, roi_positive_fraction)

    def call(params: Params, method: str, *arguments: Any) -> Any:
        return model.apply({"params": params}, *arguments, method=method)

    def init(key: Array, batch: Batch) -> Params:
        return model.init(key, batch["image"])["params"]

    def loss(params: Params, batch: Batch, key: Array) -> tuple[Array, Mapping[str, Array]]:
        images = batch["image"]
        targets = jax.vmap(make_targets)(batch["labels"], batch["classes"], batch["semantic"])
        of_rpn, of_rois = jax.random.split(key)
        features = call(params, "encode", images)
        terms: dict[str, Array] = {}
        if model.rpn is None:
            proposals = jax.vmap(_given)(batch["proposals"], batch["proposals_valid"])
        else:
            outputs = call(params, "rpn_outputs", features, images.shape[1:3])
            terms |= rpn_losses(outputs, targets, jax.random.split(of_rpn, len(images)), of_anchors)
            proposals = jax.lax.stop_gradient(choose(outputs, images.shape[1:3]))
        found, present = jax.vmap(recall)(proposals, targets)
        draw = functools.partial(sample_rois, drawing=of_proposals)
        rois, matched, drawn = jax.vmap(draw)(jax.random.split(of_rois, len(images)), proposals, targets)
        judged = call(params, "predict_boxes", features, rois)
        terms |= roi_losses(judged, rois, matched, drawn, targets, num_classes=num_classes)
        if model.mask_head is not None:
            # Positive RoIs stand first, so that the others need no masks.
            rois, matched, positive = (part[:, :num_masks] for part in (rois, matched, drawn.positive))
            classes = jnp.where(positive, jnp.take_along_axis(targets.classes, matched, axis=1), 1)
            logits = call(params, "predict_masks", features, rois, classes)
            terms["masks"] = mask_loss(logits, rois, matched, positive, targets, aligned=aligned)
        total = sum((scales.get(name, 1.0) * term for name, term in terms.items()), jnp.zeros(()))
        return total, {**terms, "recall": ratio(found.sum(), present.sum())}

    def choose(outputs: Any, size: Any) -> Proposals:
        logits, deltas, anchors = outputs

        def of_image(logits: list[Array], deltas: list[Array]) -> Proposals:
            return propose(
                logits,
                deltas,
                anchors,
                size=size,
                pre_nms=pre_nms,
                post_nms=post_nms,
                iou_threshold=rpn_nms,
            )

        return jax.vmap(of_image)(logits, deltas)

    def predict(
        params: Params,
        images: Array,
        size: Array | None = None,
        proposals: tuple[Array, Array] | None = None,
    ) -> Outputs:
        size = jnp.array(images.shape[1:3], jnp.float32) if size is None else size
        features = call(params, "encode", images)
        if model.rpn is None:
            if proposals is None:
                raise InputError("this network has no RPN: it has to be given proposals")
            candidate = jax.vmap(_given)(*proposals)
        else:
            candidate = choose(call(params, "rpn_outputs", features, images.shape[1:3]), size)
        logits, deltas = classify(params, features, candidate.boxes)

        def of_image(logits: Array, deltas: Array, candidate: Proposals) -> Detections:
            return detect(
                jax.nn.sigmoid(logits) if margins else jax.nn.softmax(logits),
                deltas,
                candidate,
                size=size,
                score_threshold=score_threshold,
                iou_threshold=nms,
                candidates=candidates,
                max_detections=max_detections,
            )

        found = jax.vmap(of_image)(logits, deltas, candidate)
        outputs = dict(found._asdict())
        if model.mask_head is not None:
            outputs["masks"] = jax.nn.sigmoid(
                call(params, "predict_masks", features, found.boxes, found.classes)
            )
            if suppression == "masks":
                outputs["valid"] = jax.vmap(apart)(outputs["masks"], found, images[..., 0])
        return outputs

    def propose_boxes(params: Params, images: Array, size: Array) -> Outputs:
        features = call(params, "encode", images)
        candidate = choose(call(params, "rpn_outputs", features, images.shape[1:3]), size)
        # Of one class, for windows to be joined.
        return {**candidate._asdict(), "classes": jnp.zeros(candidate.scores.shape, jnp.int32)}

    def classify(params: Params, features: Any, boxes: Array) -> tuple[Array, Array]:
        count = boxes.shape[1]
        if model.backbone is not None or count <= CROPS:
            return call(params, "predict_boxes", features, boxes)
        padded = jnp.pad(boxes, ((0, 0), (0, -count % CROPS), (0, 0)))
        parts = jnp.moveaxis(padded.reshape(len(boxes), -1, CROPS, 4), 1, 0)
        found = jax.lax.map(lambda part: call(params, "predict_boxes", features, part), parts)

        def joined(values: Array) -> Array:
            values = jnp.moveaxis(values, 0, 1)
            return values.reshape(len(boxes), -1, *values.shape[3:])[:, :count]

        return joined(found[0]), joined(found[1])

    def apart(masks: Array, found: Detections, image: Array) -> Array:
        """What is left when masks suppress masks that they overlap too much."""
        overlap = pairwise_mask_iou(masks, found.boxes, shape=(image.shape[0], image.shape[1]))
        return suppress(overlap > mask_nms, found.valid)

    def segment(outputs: Outputs) -> Segmentation:
        valid = np.asarray(outputs["valid"], bool)
        order = np.flatnonzero(valid)[np.argsort(-np.asarray(outputs["scores"])[valid], kind="stable")]
        boxes, classes, scores = (np.asarray(outputs[name])[order] for name in ("boxes", "classes", "scores"))
        masks = np.asarray(outputs["masks"])[order] if "masks" in outputs else None
        height, width = (int(side) for side in outputs["shape"])
        labels = paste_masks(boxes, masks, (height, width), threshold=mask_threshold)
        areas = np.bincount(labels.ravel(), minlength=len(order) + 1)
        visible = areas >= max(min_area, 1)
        visible[0] = False
        return Segmentation.from_labels(
            np.where(visible[labels], labels, 0),
            classes=classes[visible[1:]],
            scores=scores[visible[1:]],
        )

    def describe(params: Params, images: Array, boxes: Array) -> Array:
        return call(params, "roi_features", call(params, "encode", images), boxes)

    return Task(
        init,
        loss,
        predict,
        segment,
        frozen,
        maps=False,
        proposals=model.rpn is None,
        propose=None if model.rpn is None else propose_boxes,
        describe=describe,
    )


def _given(boxes: Array, valid: Array) -> Proposals:
    usable = box_ops.has_min_side(boxes, 1e-3) & valid
    return Proposals(jnp.where(usable[:, None], boxes, 0), jnp.zeros(len(boxes)), usable)
