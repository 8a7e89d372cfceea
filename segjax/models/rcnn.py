"""The R-CNN family: one module with optional parts, and four constructors that say which.

|              | proposals from | features from                         | heads    |
|--------------|----------------|---------------------------------------|----------|
| r_cnn        | the batch      | an encoder of each warped crop        | box      |
| fast_r_cnn   | the batch      | RoIs pooled from shared features      | box      |
| faster_r_cnn | RPN            | RoIs pooled from shared features      | box      |
| mask_r_cnn   | RPN            | RoIs pooled from shared features      | box, mask|
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.models.fpn import Backbone
from segjax.models.heads import BoxFeatures, BoxPredictor, CropFeatures, MaskHead
from segjax.models.layers import FrozenBatchNorm
from segjax.models.rpn import RegionProposals
from segjax.ops.anchors import pyramid_anchors
from segjax.ops.roi_align import pyramid_level, pyramid_roi_align, roi_align
from segjax.ops.roi_pool import roi_pool
from segjax.typing import Array

# Of one image: (maps, each [H, W, C]; boxes [T, 4]) -> [T, bins, bins, C].
Pooler = Callable[[Sequence[Array], Array], Array]


class RCNN(nn.Module):
    """A detector; `init` with `__call__`, and `apply` with the name of one of the other methods.

    Images pass a constant affine first, `input`, as in `Segmenter`. All sizes are pixels of the images as
    they are given.

    Attributes:
      box_features: of pooled RoIs.
      box_predictor: classes and boxes from them.
      pool: cuts RoIs out of the maps of one image.
      backbone: gives the maps; None if RoIs are cut out of the image itself.
      rpn: proposes boxes; None if the batch brings proposals.
      anchor_sizes: of each map, square roots of areas in pixels.
      anchor_ratios: of height to width.
      mask_pool: as `pool`, for the mask head.
      mask_head: draws masks; None for boxes alone.
    """

    box_features: BoxFeatures | CropFeatures
    box_predictor: BoxPredictor
    pool: Pooler
    # Any: what is None is never called, which no type says of optional parts that belong together.
    backbone: Backbone | None = None
    rpn: Any = None
    anchor_sizes: tuple[tuple[float, ...], ...] = ()
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    mask_pool: Any = None
    mask_head: Any = None

    def setup(self) -> None:
        """Makes the constant that images pass first."""
        self.input = FrozenBatchNorm(epsilon=0.0)

    def __call__(self, images: Array) -> tuple[Array, ...]:
        """Runs every part once, which makes its parameters; what comes out means nothing."""
        features = self.encode(images)
        outputs = [] if self.rpn is None else self.rpn_outputs(features, images.shape[1:3])[0]
        boxes = jnp.broadcast_to(jnp.array([0.0, 0, 16, 16]), (len(images), 1, 4))
        outputs = [*outputs, *self.predict_boxes(features, boxes)]
        if self.mask_head is not None:
            outputs.append(self.predict_masks(features, boxes, jnp.ones((len(images), 1), jnp.int32)))
        return tuple(outputs)

    def encode(self, images: Array) -> list[Array]:
        """Maps images [B, H, W, C] to the maps that the other methods take, [B, h, w, C'], fine to coarse."""
        x = self.input(images)
        return [x] if self.backbone is None else self.backbone(x)

    def rpn_outputs(
        self, features: Sequence[Array], image_shape: tuple[int, ...]
    ) -> tuple[list[Array], list[Array], list[np.ndarray]]:
        """For each map, logits [B, A] and deltas [B, A, 4] of its anchors, and those [A, 4], in pixels.

        Args:
          features: from `encode`.
          image_shape: `(H, W)` of the images that it encoded.
        """
        logits, deltas = self.rpn(features)
        anchors = pyramid_anchors(
            [(x.shape[1], x.shape[2]) for x in features],
            image_shape=(image_shape[0], image_shape[1]),
            sizes=self.anchor_sizes,
            ratios=self.anchor_ratios,
        )
        return logits, deltas, anchors

    def roi_features(self, features: Sequence[Array], boxes: Array) -> Array:
        """The features [B, T, D] of boxes [B, T, 4] that their class and place are predicted from."""
        pooled = jax.vmap(self.pool)(features, boxes)
        described = self.box_features(pooled.reshape(-1, *pooled.shape[2:]))
        return described.reshape(*boxes.shape[:2], -1)

    def predict_boxes(self, features: Sequence[Array], boxes: Array) -> tuple[Array, Array]:
        """Judges boxes [B, T, 4]: logits [B, T, K] and deltas [B, T, K, 4], float32."""
        batch, count = boxes.shape[:2]
        described = self.roi_features(features, boxes)
        logits, deltas = self.box_predictor(described.reshape(batch * count, -1))
        return logits.reshape(batch, count, -1), deltas.reshape(batch, count, -1, 4)

    def predict_masks(self, features: Sequence[Array], boxes: Array, classes: Array) -> Array:
        """The logits [B, T, M, M] of the masks of boxes [B, T, 4] for their classes [B, T]."""
        pooled = jax.vmap(self.mask_pool)(features, boxes)
        logits = self.mask_head(pooled.reshape(-1, *pooled.shape[2:]), classes.reshape(-1))
        return logits.reshape(*classes.shape, *logits.shape[1:])


def make_pool(
    *,
    strides: Sequence[int],
    bins: int,
    pooling: str = "align",
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_size: float = 224.0,
) -> Pooler:
    """The way to cut RoIs out of the maps of one image.

    Args:
      strides: of the maps that RoIs come from, fine to coarse; further maps are left to the RPN.
      bins: side of a pooled RoI.
      pooling: `align` or `pool`, RoIAlign or RoIPool; the latter takes each RoI from every map and keeps one.
      sampling_ratio: of RoIAlign.
      aligned: likewise.
      canonical_size: sides of the boxes that belong to the map of stride 16, where there is a choice.
    """
    scales = [1 / stride for stride in strides]
    settings: dict[str, Any] = {"bins": bins, "sampling_ratio": sampling_ratio, "aligned": aligned}

    def align_one(features: Sequence[Array], boxes: Array) -> Array:
        return roi_align(features[0], boxes, scale=scales[0], **settings)

    def align_pyramid(features: Sequence[Array], boxes: Array) -> Array:
        maps = features[: len(scales)]
        return pyramid_roi_align(maps, boxes, scales=scales, canonical_size=canonical_size, **settings)

    def pool_pyramid(features: Sequence[Array], boxes: Array) -> Array:
        level = pyramid_level(boxes, scales=scales, canonical_size=canonical_size)
        pooled: Array = jnp.zeros(())
        for index, scale in enumerate(scales):
            of_map = roi_pool(features[index], boxes, bins=bins, scale=scale)
            pooled = (
                of_map if index == 0 else jnp.where((level == index)[:, None, None, None], of_map, pooled)
            )
        return pooled

    if pooling == "pool":
        return pool_pyramid
    return align_one if len(scales) == 1 else align_pyramid


def warp_crops(features: Sequence[Array], boxes: Array, *, side: int, context: int) -> Array:
    """Warps boxes of the image to squares, as R-CNN sees them.

    Args:
      features: the image, [H, W, C] float, alone in a list.
      boxes: [T, 4] float, pixels.
      side: of the squares.
      context: of their pixels, how many on each side lie outside of the box.

    Returns:
      [T, side, side, C] float, 0 outside of the image.

    References:
      Girshick et al., R-CNN, appendix A (https://arxiv.org/abs/1311.2524).
    """
    margin = (boxes[:, 2:] - boxes[:, :2]) * (context / (side - 2 * context))
    grown = jnp.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=-1)
    return roi_align(features[0], grown, bins=side, sampling_ratio=1, aligned=True)


def r_cnn(
    *, encoder: nn.Module, head: BoxFeatures | None, num_classes: int, crop_side: int, crop_context: int
) -> RCNN:
    """Girshick et al., https://arxiv.org/abs/1311.2524: every proposal passes the encoder on its own."""
    return RCNN(
        box_features=CropFeatures(encoder, head),
        box_predictor=BoxPredictor(num_classes),
        pool=partial(warp_crops, side=crop_side, context=crop_context),
    )


def fast_r_cnn(*, backbone: Backbone, head: BoxFeatures, pool: Pooler, num_classes: int) -> RCNN:
    """Girshick, https://arxiv.org/abs/1504.08083: proposals share the features of the image."""
    return RCNN(backbone=backbone, pool=pool, box_features=head, box_predictor=BoxPredictor(num_classes))


def faster_r_cnn(
    *,
    rpn: RegionProposals,
    anchor_sizes: tuple[tuple[float, ...], ...],
    anchor_ratios: tuple[float, ...],
    **shared: Any,
) -> RCNN:
    """Ren et al., https://arxiv.org/abs/1506.01497: as `fast_r_cnn`, whose features propose the boxes too."""
    return fast_r_cnn(**shared).clone(rpn=rpn, anchor_sizes=anchor_sizes, anchor_ratios=anchor_ratios)


def mask_r_cnn(*, mask_head: MaskHead, mask_pool: Pooler, **shared: Any) -> RCNN:
    """He et al., https://arxiv.org/abs/1703.06870: as `faster_r_cnn`, and every box gets its pixels."""
    return faster_r_cnn(**shared).clone(mask_head=mask_head, mask_pool=mask_pool)
