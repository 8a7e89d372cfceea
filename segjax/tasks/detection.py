"""Instance segmentation with the R-CNN family."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import InputError, choose
from segjax.models.rcnn import RCNN
from segjax.ops import boxes as box_ops
from segjax.ops.detection import Detections, Proposals, detect, propose
from segjax.ops.nms import suppress
from segjax.ops.roi_masks import pairwise_mask_iou
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import Cutout, paint_best_first
from segjax.segmentation.paste_masks import paste_masks
from segjax.tasks.detection_config import DetectionConfig
from segjax.tasks.detection_losses import (
    make_targets,
    mask_loss,
    ratio,
    recall,
    roi_losses,
    rpn_losses,
    sample_rois,
)
from segjax.typing import Array, Batch, Outputs, Params

# Number of crops that R-CNN encodes at once in prediction.
CROPS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionTask:
    """A detector with its loss and its post-processing, see `Task`.

    Attributes:
      model: from `create_detector`.
      num_classes: K, background included.
      config: the settings.

    Raises:
      InputError: if a setting is unknown or does not fit the model.

    References:
      torchvision.models.detection: rpn.py, roi_heads.py. Unlike in torchvision, an object that overlaps no
      anchor makes no anchor positive.
    """

    model: RCNN
    num_classes: int
    config: DetectionConfig = DetectionConfig()

    def __post_init__(self) -> None:
        choose(("boxes", "masks"), "suppression", self.config.suppression)
        choose(("softmax", "svm"), "classifier", self.config.classifier)
        choose(("region", "foreground", "ellipse"), "outline", self.config.outline)
        if self.config.suppression == "masks" and self.model.mask_head is None:
            raise InputError(
                "suppression='masks' needs masks: choose boxes, or method=mask_r_cnn", field="suppression"
            )
        if self.config.classifier == "svm" and self.model.rpn is not None:
            raise InputError(
                "classifier='svm' needs external proposals: choose softmax, or method=r_cnn or fast_r_cnn",
                field="classifier",
            )

    @property
    def proposals(self) -> bool:
        """Whether `loss` and `predict` need external proposals, because the model has no RPN."""
        return self.model.rpn is None

    @property
    def stride(self) -> int:
        """The stride of the network."""
        return self.model.stride

    @property
    def targets(self) -> frozenset[str]:
        """The class of each instance, and the proposals of detectors without an RPN."""
        return frozenset({"classes", "proposals"} if self.proposals else {"classes"})

    def _check_patch(self, side: int) -> None:
        """Refuses patches whose feature maps are rounded up, because their anchors are misplaced."""
        stride = self.model.stride
        if side % stride and stride % side:
            raise InputError(
                f"config.data.patch_size={side} is no multiple of {stride}, the stride of the network: its"
                f" anchors would not lie on the feature maps; give {-(-side // stride) * stride}"
            )

    def init(self, key: Array, batch: Batch) -> Params:
        """Returns initial parameters."""
        return self.model.init(jnp.asarray(key), batch["image"])["params"]

    def loss(self, params: Params, batch: Batch, key: Array) -> tuple[Array, Mapping[str, Array]]:
        """Returns the weighted sum of the losses, and by name each loss and the recall of the proposals."""
        config, network = self.config, self._bind(params)
        images = batch["image"]
        shape = images.shape[1:3]
        targets = jax.vmap(make_targets)(batch["labels"], batch["classes"], batch["semantic"])
        rpn_key, roi_key = jax.random.split(key)
        features = network.encode(images)
        terms: dict[str, Array] = {}
        if self.proposals:
            proposals = jax.vmap(_external_proposals)(batch["proposals"], batch["proposals_valid"])
        else:
            self._check_patch(shape[0])
            rpn = network.rpn_outputs(features, shape)
            terms |= rpn_losses(rpn, targets, jax.random.split(rpn_key, len(images)), config.anchors)
            proposals = jax.lax.stop_gradient(self._select_proposals(rpn, shape))
        num_recalled, num_objects = jax.vmap(recall)(proposals, targets)
        sample = functools.partial(sample_rois, config=config.rois)
        rois, matched, sampled = jax.vmap(sample)(jax.random.split(roi_key, len(images)), proposals, targets)
        outputs = network.predict_boxes(features, rois)
        terms |= roi_losses(outputs, rois, matched, sampled, targets, num_classes=self.num_classes)
        if self.model.mask_head is not None:
            # Positive RoIs come first, so only the first ones need masks.
            num_masks = max(int(config.rois.batch_size * config.rois.positive_fraction), 1)
            rois, matched, positive = (part[:, :num_masks] for part in (rois, matched, sampled.positive))
            classes = jnp.where(positive, jnp.take_along_axis(targets.classes, matched, axis=1), 1)
            logits = network.predict_masks(features, rois, classes)
            terms["masks"] = mask_loss(logits, rois, matched, positive, targets, aligned=self.model.aligned)
        total = sum((getattr(config.weights, name) * term for name, term in terms.items()), jnp.zeros(()))
        return total, {**terms, "recall": ratio(num_recalled.sum(), num_objects.sum())}

    def predict(
        self,
        params: Params,
        images: Array,
        size: Array | None = None,
        proposals: tuple[Array, Array] | None = None,
    ) -> Outputs:
        """Detects objects.

        Args:
          params: parameters of the model.
          images: [B, H, W, C] float.
          size: `(height, width)` of the images without padding; that of `images` if None.
          proposals: boxes [B, P, 4] and their validity [B, P], for a model without an RPN.

        Returns:
          The fields of `Detections`, each with a leading B, and "masks" [B, D, M, M], probabilities, if the
          model predicts masks.
        """
        size = jnp.array(images.shape[1:3], jnp.float32) if size is None else size
        network = self._bind(params)
        features = network.encode(images)
        if not self.proposals:
            candidates = self._select_proposals(network.rpn_outputs(features, images.shape[1:3]), size)
        elif proposals is None:
            raise InputError("this network has no RPN: give proposals")
        else:
            candidates = jax.vmap(_external_proposals)(*proposals)
        logits, deltas = self._predict_boxes(params, features, candidates.boxes)
        select = functools.partial(detect, size=size, config=self.config.detect)
        detections: Detections = jax.vmap(select)(self.probabilities(logits), deltas, candidates)
        outputs = dict(detections._asdict())
        if self.model.mask_head is not None:
            masks = network.predict_masks(features, detections.boxes, detections.classes)
            outputs["masks"] = jax.nn.sigmoid(masks)
            if self.config.suppression == "masks":
                mask_nms = functools.partial(self._mask_nms, shape=(images.shape[1], images.shape[2]))
                outputs["valid"] = jax.vmap(mask_nms)(outputs["masks"], detections)
        return outputs

    def probabilities(self, logits: Array) -> Array:
        """Returns class probabilities [..., K]."""
        return jax.nn.softmax(logits)

    def propose(self, params: Params, images: Array, size: Array) -> Outputs:
        """Returns the RPN's proposals in the form of `predict`, all of class 0."""
        network = self._bind(params)
        outputs = network.rpn_outputs(network.encode(images), images.shape[1:3])
        proposals = self._select_proposals(outputs, size)
        return {**proposals._asdict(), "classes": jnp.zeros(proposals.scores.shape, jnp.int32)}

    def roi_features(self, params: Params, images: Array, boxes: Array) -> Array:
        """Returns the features [B, T, D] of boxes [B, T, 4] from which classes and boxes are predicted."""
        return self.pooled_features(params, self.encode(params, images), boxes)

    def encode(self, params: Params, images: Array) -> list[Array]:
        """Returns the feature maps of images [B, H, W, C], for `pooled_features`."""
        return self._bind(params).encode(images)

    def pooled_features(self, params: Params, features: list[Array], boxes: Array) -> Array:
        """Returns the features [B, T, D] of boxes [B, T, 4] from the feature maps of the images."""
        return self._bind(params).roi_features(features, boxes)

    def segment(self, outputs: Outputs) -> Segmentation:
        """Makes a segmentation; where objects overlap, the one with the highest score is on top.

        An object that contains or repeats a better one is left out, see `paint_best_first`.
        """
        scores = np.asarray(outputs["scores"])
        valid = np.asarray(outputs["valid"], bool) & (scores > self.config.detect.score_threshold)
        order = np.flatnonzero(valid)[np.argsort(-scores[valid], kind="stable")]
        boxes, classes, scores = (np.asarray(outputs[name])[order] for name in ("boxes", "classes", "scores"))
        height, width = (int(side) for side in outputs["shape"])
        cutouts: Iterable[Cutout]
        if self.config.outline in outputs and "masks" not in outputs:
            cutouts = np.asarray(outputs[self.config.outline])[order].tolist()
        else:
            masks = np.asarray(outputs["masks"])[order] if "masks" in outputs else None
            cutouts = paste_masks(boxes, masks, (height, width), threshold=self.config.mask_threshold)
        labels = paint_best_first(cutouts, (height, width), max_overlap=self.config.max_overlap)
        areas = np.bincount(labels.ravel(), minlength=len(order) + 1)
        visible = areas >= max(self.config.min_area, 1)
        visible[0] = False
        return Segmentation.from_labels(
            np.where(visible[labels], labels, 0), classes=classes[visible[1:]], scores=scores[visible[1:]]
        )

    def _bind(self, params: Params) -> RCNN:
        return self.model.bind({"params": params})

    def _select_proposals(self, outputs: Any, size: Any) -> Proposals:
        logits, deltas, anchors = outputs
        select = functools.partial(propose, anchors=anchors, size=size, config=self.config.propose)
        return jax.vmap(lambda logits, deltas: select(logits, deltas))(logits, deltas)

    def _predict_boxes(self, params: Params, features: Any, boxes: Array) -> tuple[Array, Array]:
        """Like `RCNN.predict_boxes`, but R-CNN encodes few crops at a time, which limits memory."""
        count = boxes.shape[1]
        if self.model.backbone is not None or count <= CROPS:
            return self._bind(params).predict_boxes(features, boxes)
        padded = jnp.pad(boxes, ((0, 0), (0, -count % CROPS), (0, 0)))
        chunks = jnp.moveaxis(padded.reshape(len(boxes), -1, CROPS, 4), 1, 0)
        outputs = jax.lax.map(lambda chunk: self._bind(params).predict_boxes(features, chunk), chunks)

        def join(values: Array) -> Array:
            values = jnp.moveaxis(values, 0, 1)
            return values.reshape(len(boxes), -1, *values.shape[3:])[:, :count]

        return join(outputs[0]), join(outputs[1])

    def _mask_nms(self, masks: Array, detections: Detections, *, shape: tuple[int, int]) -> Array:
        threshold = self.config.mask_threshold
        overlap = pairwise_mask_iou(masks, detections.boxes, shape=shape, threshold=threshold)
        return suppress(overlap > self.config.mask_nms, detections.valid)


def _external_proposals(boxes: Array, valid: Array) -> Proposals:
    usable = box_ops.has_min_side(boxes, 1e-3) & valid
    return Proposals(jnp.where(usable[:, None], boxes, 0), jnp.zeros(len(boxes)), usable)
