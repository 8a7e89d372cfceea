"""Detectors of the R-CNN family by name."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from segjax.errors import InputError, choose
from segjax.models.fpn import Backbone, FeaturePyramid
from segjax.models.heads import BoxFeatures, BoxPredictor, CropFeatures, MaskHead
from segjax.models.rcnn import RCNN, make_pool, warp_crops
from segjax.models.rpn import RegionProposals
from segjax.models.segmenters import DTYPES, ENCODERS, create_encoder, make_norm, read_settings
from segjax.settings import Count, NonNegativeInt, Positive, Settings

METHODS = ("r_cnn", "fast_r_cnn", "faster_r_cnn", "mask_r_cnn")
PYRAMID = "_fpn"
# Box heads: number of convolutions and number of fully connected layers.
HEADS = {"mlp": (0, 2), "conv": (4, 1)}
# Anchor sizes in pixels for each feature map, from micronuclei of 4 pixels to cells of 128.
ANCHOR_SIZES = {
    5: ((4.0, 6.0), (8.0, 12.0), (16.0, 24.0), (32.0, 48.0), (64.0, 128.0)),
    4: ((4.0, 8.0), (16.0, 24.0), (32.0, 48.0), (64.0, 128.0)),
    1: ((4.0, 8.0, 16.0, 32.0, 64.0, 128.0),),
}


@dataclasses.dataclass(frozen=True)
class DetectorConfig(Settings):
    """Settings of `create_detector`.

    Attributes:
      method: one of `METHODS`.
      backbone: a name in `segmenters.ENCODERS`; with `_fpn` for a feature pyramid.
      width: multiplies the encoder's channels.
      norm: norm of the encoder, see `SegmenterConfig`. `group` is for training from scratch; imported weights
        need `none` or `frozen_batch`.
      pyramid_channels: channels of each map of the pyramid.
      pyramid_norm: norm of the pyramid, `group`, `frozen_batch` or `none`.
      anchor_sizes: square roots of the anchor areas of each feature map, pixels, equally many for each map;
        None for sizes that fit cells.
      anchor_ratios: height / width of the anchors.
      rpn_convolutions: number of convolutions before the RPN's outputs.
      pooling: `align` for RoIAlign, `pool` for RoIPool.
      bins: height and width of a pooled RoI; RoIs for the mask head have twice as many bins.
      sampling_ratio: samples of RoIAlign per bin and axis.
      aligned: whether RoIAlign shifts boxes by half a pixel. False matches published weights.
      canonical_size: side of a box that is pooled from the map of stride 16, pixels.
      head: box head. `mlp`, as in torchvision's first version, has two fully connected layers; `conv`, as in
        its second version, has four convolutions and one fully connected layer.
      head_channels: channels of the fully connected layers.
      head_norm: norm of the convolutions in the heads.
      mask_channels: channels of the convolutions in the mask head and in the box head.
      crop_side: side of the warped crops that R-CNN encodes, pixels.
      crop_context: width of the border of context in these crops, pixels.
      size_unit: the logarithms of the height and width of a box, divided by this number of pixels, are added
        to its feature vector. A warped crop does not show how large the box is. None adds nothing.
      dtype: dtype of the computation, `float32` or `bfloat16`.
      remat: recompute the encoder's activations in the backward pass.
    """

    method: str = "mask_r_cnn"
    backbone: str = "resnet50_fpn"
    width: Positive = 1.0
    norm: str = "group"
    pyramid_channels: Count = 256
    pyramid_norm: str = "none"
    anchor_sizes: tuple[tuple[Positive, ...], ...] | None = None
    anchor_ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    rpn_convolutions: Count = 1
    pooling: str = "align"
    bins: Count = 7
    sampling_ratio: Count = 2
    aligned: bool = True
    canonical_size: Positive = 224.0
    head: str = "mlp"
    head_channels: Count = 1024
    head_norm: str = "none"
    mask_channels: Count = 256
    crop_side: Count = 224
    crop_context: NonNegativeInt = 16
    size_unit: Positive | None = None
    dtype: str = "float32"
    remat: bool = False


def create_detector(method: str | DetectorConfig = "mask_r_cnn", *, classes: int, **settings: Any) -> RCNN:
    """Makes a detector.

    Args:
      method: one of `METHODS`, or a `DetectorConfig`.
      classes: K, number of classes, background included.
      **settings: fields of `DetectorConfig`.

    Raises:
      InputError: for an impossible setting; the message lists the possible ones.

    >>> detector = create_detector("faster_r_cnn", backbone="vgg16_fpn", classes=2)
    >>> detector.mask_head is None, len(detector.anchor_sizes)
    (True, 4)
    """
    config = read_settings(DetectorConfig, method, settings)
    if classes < 1:
        raise InputError(f"classes counts the background, too, and must be at least 1, not {classes}")
    choose(METHODS, "method", config.method)
    choose(("align", "pool"), "pooling", config.pooling)
    choose([*ENCODERS, *(f"{encoder}{PYRAMID}" for encoder in ENCODERS)], "backbone", config.backbone)
    head = _box_head(config)
    predictor = BoxPredictor(classes)
    if config.method == "r_cnn":
        return _r_cnn(config, head, predictor)
    backbone = _backbone(config)
    pool = partial(
        make_pool,
        # RoIs are pooled from these maps; the last map of a pyramid is for the RPN alone.
        strides=backbone.encoder.strides[-backbone.levels :],
        pooling=config.pooling,
        sampling_ratio=config.sampling_ratio,
        aligned=config.aligned,
        canonical_size=config.canonical_size,
    )
    detector = RCNN(
        head,
        predictor,
        pool(bins=config.bins),
        backbone,
        aligned=config.aligned,
        size_unit=config.size_unit,
    )
    if config.method == "fast_r_cnn":
        return detector
    anchor_sizes = _anchor_sizes(config, backbone.levels + (backbone.pyramid is not None))
    if not config.anchor_ratios:
        raise InputError(
            "anchor_ratios has no value: give one or more, such as (1.0,)", field="anchor_ratios"
        )
    num_anchors = len(anchor_sizes[0]) * len(config.anchor_ratios)
    detector = detector.clone(
        rpn=RegionProposals(num_anchors, config.rpn_convolutions, DTYPES[config.dtype]),
        anchor_sizes=anchor_sizes,
        anchor_ratios=tuple(config.anchor_ratios),
    )
    if config.method == "faster_r_cnn":
        return detector
    mask_head = MaskHead(classes, config.mask_channels, norm=head.norm, dtype=DTYPES[config.dtype])
    return detector.clone(mask_head=mask_head, mask_pool=pool(bins=2 * config.bins))


def _box_head(config: DetectorConfig) -> BoxFeatures:
    convolutions, layers = choose(HEADS, "head", config.head)
    dtype = choose(DTYPES, "dtype", config.dtype)
    return BoxFeatures(
        channels=(config.head_channels,) * layers,
        convolutions=convolutions,
        convolution_channels=config.mask_channels,
        norm=make_norm("head_norm", config.head_norm, dtype),
        dtype=dtype,
    )


def _encoder(config: DetectorConfig) -> Any:
    name = config.backbone.removesuffix(PYRAMID)
    return create_encoder(name, width=config.width, norm=config.norm, dtype=config.dtype, remat=config.remat)


def _r_cnn(config: DetectorConfig, head: BoxFeatures, predictor: BoxPredictor) -> RCNN:
    side, context = config.crop_side, config.crop_context
    if not 0 <= 2 * context < side:
        raise InputError(
            f"crop_context={context} leaves nothing of crop_side={side}: choose less than {side / 2:g}",
            field="crop_context",
        )
    # ResNets end in a feature vector; VGG's fully connected layers are the head.
    features = CropFeatures(_encoder(config), head if config.backbone.startswith("vgg") else None)
    warp = partial(warp_crops, side=side, context=context)
    return RCNN(features, predictor, warp, aligned=config.aligned, size_unit=config.size_unit)


def _backbone(config: DetectorConfig) -> Backbone:
    encoder, dtype = _encoder(config), DTYPES[config.dtype]
    if not config.backbone.endswith(PYRAMID):
        return Backbone(encoder, None, 1)
    # The pyramid starts at stride 4: finer maps would cost more than the rest together.
    levels = sum(stride >= 4 for stride in encoder.strides)
    norm = make_norm("pyramid_norm", config.pyramid_norm, dtype)
    return Backbone(encoder, FeaturePyramid(config.pyramid_channels, norm, dtype), levels)


def _anchor_sizes(config: DetectorConfig, num_maps: int) -> tuple[tuple[float, ...], ...]:
    sizes = ANCHOR_SIZES.get(num_maps, ()) if config.anchor_sizes is None else config.anchor_sizes
    lengths = {len(sizes_of_map) for sizes_of_map in sizes}
    if len(sizes) != num_maps or len(lengths) != 1 or lengths == {0}:
        raise InputError(
            f"anchor_sizes must be {num_maps} lists of equal length for {config.backbone}, one for each"
            f" feature map, each with one or more sizes, not {sizes}",
            field="anchor_sizes",
        )
    return tuple(map(tuple, sizes))
