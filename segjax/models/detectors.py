"""Detectors by name: the parts of the R-CNN family put together from a config's words and numbers."""

from collections.abc import Sequence
from typing import Any

from segjax.errors import InputError, choose
from segjax.models.fpn import Backbone, FeaturePyramid
from segjax.models.heads import BoxFeatures, MaskHead
from segjax.models.rcnn import RCNN, Pooler, fast_r_cnn, faster_r_cnn, make_pool, mask_r_cnn, r_cnn
from segjax.models.rpn import RegionProposals
from segjax.models.segmenters import DTYPES, ENCODERS, create_encoder, make_norm

METHODS = ("r_cnn", "fast_r_cnn", "faster_r_cnn", "mask_r_cnn")
PYRAMID = "_fpn"
# Convolutions and fully connected layers of the box head.
HEADS = {"mlp": (0, 2), "conv": (4, 1)}


def create_detector(
    *,
    method: str = "mask_r_cnn",
    backbone: str = "resnet50_fpn",
    width: float = 1.0,
    norm: str = "group",
    pyramid_channels: int = 256,
    pyramid_norm: str = "none",
    anchor_sizes: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    rpn_convolutions: int = 1,
    pooling: str = "align",
    bins: int = 7,
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_size: float = 224.0,
    head: str = "mlp",
    head_channels: int = 1024,
    head_norm: str = "none",
    mask_channels: int = 256,
    crop_side: int = 224,
    crop_context: int = 16,
    dtype: str = "float32",
    remat: bool = False,
    num_classes: int,
) -> RCNN:
    """Makes a detector.

    Args:
      method: one of `METHODS`.
      backbone: a name in `segmenters.ENCODERS`, with `_fpn` for a feature pyramid.
      width: multiplies the encoder's channels.
      norm: of the encoder, see `create_segmenter`.
      pyramid_channels: of the maps of the pyramid.
      pyramid_norm: `group`, `frozen_batch` or `none`.
      anchor_sizes: in pixels, of each map; as many for one map as for another.
      anchor_ratios: of height to width.
      rpn_convolutions: before the RPN's outputs.
      pooling: `align` or `pool`, see `rcnn.make_pool`.
      bins: side of a RoI that is classified; masks are drawn from twice as many.
      sampling_ratio: of RoIAlign.
      aligned: likewise.
      canonical_size: see `ops.roi_align.pyramid_level`.
      head: `mlp`, two fully connected layers, or `conv`, four convolutions and one fully connected layer.
      head_channels: of the fully connected layers.
      head_norm: of the convolutions in the heads.
      mask_channels: of the mask head and of the convolutions in the box head.
      crop_side: of the squares that R-CNN encodes.
      crop_context: how many of their pixels lie outside of the box, on each side.
      dtype: `float32` or `bfloat16`, of the computation.
      remat: recompute the encoder's activations in the backward pass.
      num_classes: K, background included.

    Returns:
      The module, see `RCNN`.

    Raises:
      InputError: for a name or number that is not possible; the message lists those that are.
    """
    choose(METHODS, "method", method)
    choose(("align", "pool"), "pooling", pooling)
    name = backbone.removesuffix(PYRAMID)
    choose([*ENCODERS, *(f"{e}{PYRAMID}" for e in ENCODERS)], "backbone", backbone)
    convolutions, layers = choose(HEADS, "head", head)
    kind = choose(DTYPES, "dtype", dtype)
    encoder = create_encoder(name, width=width, norm=norm, dtype=dtype, remat=remat)
    box_head = BoxFeatures(
        channels=(head_channels,) * layers,
        convolutions=convolutions,
        convolution_channels=mask_channels,
        norm=make_norm("head_norm", head_norm, kind),
        dtype=kind,
    )
    if method == "r_cnn":
        if not 0 <= 2 * crop_context < crop_side:
            raise InputError(f"crop_context {crop_context} leaves nothing of crop_side {crop_side}")
        classic = name.startswith("vgg")
        return r_cnn(
            encoder=encoder,
            head=box_head if classic else None,
            num_classes=num_classes,
            crop_side=crop_side,
            crop_context=crop_context,
        )
    strides = encoder.strides[-1:]
    pyramid = None
    if backbone.endswith(PYRAMID):
        # From stride 4: finer maps cost more than the rest together.
        strides = tuple(stride for stride in encoder.strides if stride >= 4)
        pyramid = FeaturePyramid(pyramid_channels, make_norm("pyramid_norm", pyramid_norm, kind), kind)
    sampling: dict[str, Any] = {"pooling": pooling, "sampling_ratio": sampling_ratio, "aligned": aligned}

    def pool(bins: int) -> Pooler:
        return make_pool(strides=strides, bins=bins, canonical_size=canonical_size, **sampling)

    parts: dict[str, Any] = {
        "backbone": Backbone(encoder, pyramid, len(strides)),
        "head": box_head,
        "pool": pool(bins),
        "num_classes": num_classes,
    }
    if method == "fast_r_cnn":
        return fast_r_cnn(**parts)
    maps = len(strides) + (pyramid is not None)
    per_place = {len(of_map) for of_map in anchor_sizes}
    if len(anchor_sizes) != maps or len(per_place) != 1:
        raise InputError(
            f"anchor_sizes must be {maps} lists of equal length for {backbone}, one for each of its maps, not"
            f" {tuple(anchor_sizes)}"
        )
    num_anchors = per_place.pop() * len(anchor_ratios)
    parts |= {
        "rpn": RegionProposals(num_anchors, rpn_convolutions, kind),
        "anchor_sizes": tuple(map(tuple, anchor_sizes)),
        "anchor_ratios": tuple(anchor_ratios),
    }
    if method == "faster_r_cnn":
        return faster_r_cnn(**parts)
    mask_head = MaskHead(num_classes, mask_channels, norm=box_head.norm, dtype=kind)
    return mask_r_cnn(**parts, mask_head=mask_head, mask_pool=pool(2 * bins))
