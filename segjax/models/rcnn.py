"""The R-CNN family as one module with optional parts.

|              | proposals from | features from                    | heads     |
|--------------|----------------|----------------------------------|-----------|
| r_cnn        | the batch      | an encoder applied to each crop  | box       |
| fast_r_cnn   | the batch      | RoIs pooled from shared features | box       |
| faster_r_cnn | RPN            | RoIs pooled from shared features | box       |
| mask_r_cnn   | RPN            | RoIs pooled from shared features | box, mask |

R-CNN: Girshick et al., https://arxiv.org/abs/1311.2524. Fast R-CNN: Girshick, https://arxiv.org/abs/1504.08083.
Faster R-CNN: Ren et al., https://arxiv.org/abs/1506.01497. Mask R-CNN: He et al., https://arxiv.org/abs/1703.06870.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.models.fpn import Backbone
from segjax.models.heads import BoxFeatures, BoxPredictor, CropFeatures
from segjax.models.norms import FrozenBatchNorm
from segjax.ops.anchors import pyramid_anchors
from segjax.ops.roi_align import pyramid_level, pyramid_roi_align, roi_align
from segjax.ops.roi_pool import roi_pool
from segjax.typing import Array

# For one image: (maps, each [H, W, C]; boxes [T, 4]) -> [T, bins, bins, C].
Pooler = Callable[[Sequence[Array], Array], Array]


class RCNN(nn.Module):
    """A detector. Only `init` runs `__call__`; training and prediction call the other methods.

    The images first pass a constant affine transform, `input`, as in `Segmenter`. All sizes are in pixels of
    these images.

    Attributes:
      box_features: maps pooled RoIs to feature vectors.
      box_predictor: predicts classes and box deltas from them.
      pool: extracts RoIs from the feature maps of one image.
      backbone: computes the feature maps; None if RoIs are cropped from the image itself.
      rpn: predicts proposals; None if the batch contains them.
      anchor_sizes: square roots of the anchor areas of each map, pixels.
      anchor_ratios: height / width of the anchors.
      mask_pool: like `pool`, for the mask head.
      mask_head: predicts masks; None for a detector of boxes.
      aligned: whether RoIs are pooled with the half-pixel correction, see `roi_align`.
      size_unit: see `DetectorConfig`.
    """

    box_features: BoxFeatures | CropFeatures
    box_predictor: BoxPredictor
    pool: Pooler
    # Optional parts are typed Any, because no type states that a part that is None is never called.
    backbone: Backbone | None = None
    rpn: Any = None
    anchor_sizes: tuple[tuple[float, ...], ...] = ()
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    mask_pool: Any = None
    mask_head: Any = None
    aligned: bool = True
    size_unit: float | None = None

    @property
    def stride(self) -> int:
        """Stride of the coarsest feature map."""
        if self.backbone is None:
            return 1
        return int(self.backbone.encoder.strides[-1]) * (1 if self.backbone.pyramid is None else 2)

    def setup(self) -> None:
        """Makes the constant affine transform of the images."""
        self.input = FrozenBatchNorm(epsilon=0.0)

    def __call__(self, images: Array) -> tuple[Array, ...]:
        """Runs each part once, to initialise its parameters; the outputs have no meaning."""
        features = self.encode(images)
        outputs = [] if self.rpn is None else self.rpn_outputs(features, images.shape[1:3])[0]
        boxes = jnp.broadcast_to(jnp.array([0.0, 0, 16, 16]), (len(images), 1, 4))
        outputs = [*outputs, *self.predict_boxes(features, boxes)]
        if self.mask_head is not None:
            outputs.append(self.predict_masks(features, boxes, jnp.ones((len(images), 1), jnp.int32)))
        return tuple(outputs)

    def encode(self, images: Array) -> list[Array]:
        """Returns the feature maps [B, h, w, C'] of images [B, H, W, C], fine to coarse."""
        x = self.input(images)
        return [x] if self.backbone is None else self.backbone(x)

    def rpn_outputs(
        self, features: Sequence[Array], image_shape: tuple[int, ...]
    ) -> tuple[list[Array], list[Array], list[np.ndarray]]:
        """Returns for each map the logits [B, A], the deltas [B, A, 4] and the anchors [A, 4], pixels.

        Args:
          features: from `encode`.
          image_shape: `(H, W)` of the encoded images.
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
        """Returns the feature vectors [B, T, D] of boxes [B, T, 4]."""
        pooled = jax.vmap(self.pool)(features, boxes)
        vectors = self.box_features(pooled.reshape(-1, *pooled.shape[2:]))
        vectors = vectors.reshape(*boxes.shape[:2], -1)
        if self.size_unit is None:
            return vectors
        # The boxes of padding are empty.
        sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)
        return jnp.concatenate([vectors, jnp.log(sides / self.size_unit).astype(vectors.dtype)], axis=-1)

    def predict_boxes(self, features: Sequence[Array], boxes: Array) -> tuple[Array, Array]:
        """Returns class logits [B, T, K] and deltas [B, T, K, 4] of boxes [B, T, 4], float32."""
        batch, count = boxes.shape[:2]
        vectors = self.roi_features(features, boxes)
        logits, deltas = self.box_predictor(vectors.reshape(batch * count, -1))
        return logits.reshape(batch, count, -1), deltas.reshape(batch, count, -1, 4)

    def predict_masks(self, features: Sequence[Array], boxes: Array, classes: Array) -> Array:
        """Returns mask logits [B, T, M, M] of boxes [B, T, 4] for their classes [B, T]."""
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
    """Returns a function that extracts RoIs from the feature maps of one image.

    Args:
      strides: strides of the maps that RoIs are pooled from, fine to coarse; the RPN may use further maps.
      bins: height and width of a pooled RoI.
      pooling: `align` for RoIAlign, `pool` for RoIPool, which pools each RoI from every map and selects
        one.
      sampling_ratio: samples of RoIAlign per bin and axis.
      aligned: whether RoIAlign shifts boxes by half a pixel.
      canonical_size: side of a box that belongs to the map of stride 16, pixels; for several maps only.
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
            values = roi_pool(features[index], boxes, bins=bins, scale=scale)
            selected = (level == index)[:, None, None, None]
            pooled = values if index == 0 else jnp.where(selected, values, pooled)
        return pooled

    if pooling == "pool":
        return pool_pyramid
    return align_one if len(scales) == 1 else align_pyramid


def warp_crops(features: Sequence[Array], boxes: Array, *, side: int, context: int) -> Array:
    """Warps boxes of the image to squares, the input of R-CNN's encoder.

    Args:
      features: a list that holds only the image, [H, W, C] float.
      boxes: [T, 4] float, pixels.
      side: side of the squares, pixels.
      context: width of the border of a square that shows the surroundings of the box, pixels.

    Returns:
      [T, side, side, C] float; 0 outside the image.

    References:
      Girshick et al., R-CNN, appendix A (https://arxiv.org/abs/1311.2524).
    """
    margin = (boxes[:, 2:] - boxes[:, :2]) * (context / (side - 2 * context))
    padded = jnp.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=-1)
    return roi_align(features[0], padded, bins=side, sampling_ratio=1, aligned=True)
