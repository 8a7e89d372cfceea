"""Encoder-decoder networks by name: an encoder, a decoder and a 1 x 1 convolution for every output."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import InputError, choose
from segjax.models import resnet, vgg
from segjax.models.decoder import Decoder
from segjax.models.layers import (
    Interpolation,
    TransposedConvolution,
    pointwise_convolution,
    upsample2x,
)
from segjax.models.norms import NORMS, FrozenBatchNorm
from segjax.settings import Count, NonNegativeInt, Positive, Settings
from segjax.typing import Array, Outputs

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(vgg.VGG, convolutions=counts) for name, counts in vgg.VARIANTS.items()},
    # `_v1` is the variant of Keras and Caffe, see `stride_first` of `resnet.Bottleneck`.
    **{name: partial(resnet.ResNet, **settings) for name, settings in resnet.VARIANTS.items()},
}
# The layer that doubles the resolution in each decoder.
DECODERS: dict[str, Callable[..., nn.Module]] = {
    "transposed": TransposedConvolution,
    "upsample": Interpolation,
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
T = TypeVar("T")


class Segmenter(nn.Module):
    """Maps images to maps of the same size.

    The first layer, `input`, is a constant affine transform of the images. It is the identity unless
    `load_encoder` sets it to the preprocessing of pretrained weights. As a layer of its own, the
    preprocessing is exact where the encoder pads, it is in every checkpoint, and the rest of segjax uses a
    single range of intensities.

    Attributes:
      encoder: returns a list of features, fine to coarse.
      decoder: maps them and the size of the image to [B, H, W, C'].
      outputs: channels of each output, by name.
    """

    encoder: nn.Module
    decoder: Decoder
    outputs: Mapping[str, int]

    @property
    def stride(self) -> int:
        """Shifting an image by its multiples shifts the outputs, away from the border."""
        return int(self.encoder.strides[-1])

    @nn.compact
    def __call__(self, images: Array) -> Outputs:
        """Maps images to logits.

        Args:
          images: [B, H, W, C] float, of any size, about 0 to 1.

        Returns:
          The logits [B, H, W, channels] of each output, by name, float32.
        """
        x = FrozenBatchNorm(epsilon=0.0, name="input")(images)
        height, width = images.shape[1:3]
        x = self.decoder(self.encoder(x), (height, width)).astype(jnp.float32)
        # With smaller initial weights, 0.01, the heads alone took a hundred steps to grow.
        init = nn.initializers.lecun_normal()
        maps = {
            name: pointwise_convolution(channels, kernel_init=init, name=f"head_{name}")(x)
            for name, channels in self.outputs.items()
        }
        for _ in range(self.decoder.output_stride.bit_length() - 1):
            maps = {name: upsample2x(values, method="bilinear") for name, values in maps.items()}
        return {name: values[:, :height, :width] for name, values in maps.items()}


def create_encoder(
    name: str, *, width: float = 1.0, norm: str = "group", dtype: str = "float32", remat: bool = False
) -> nn.Module:
    """Makes an encoder; the arguments are those of `SegmenterConfig`."""
    encoder = choose(ENCODERS, "encoder", name)
    dtype = choose(DTYPES, "dtype", dtype)
    if not width > 0:
        raise InputError(f"width multiplies the channels and must be above 0, not {width}")
    return encoder(width=width, norm=make_norm("norm", norm, dtype), dtype=dtype, remat=remat)


@dataclasses.dataclass(frozen=True)
class SegmenterConfig(Settings):
    """Settings of `create_segmenter`.

    Attributes:
      encoder: a name in `ENCODERS`.
      decoder: a name in `DECODERS`.
      width: multiplies the encoder's channels; 1 for published weights.
      skips: whether the decoder gets the finer features of the encoder.
      merge: how the decoder merges them, `concatenate` or `add`.
      interpolation: `nearest` or `bilinear`, for the decoder `upsample`.
      channels: channels of the decoder's stages, coarse to fine; None for half of the encoder's.
      convolutions: number of 3 x 3 convolutions in each stage of the decoder.
      output_stride: resolution of the decoder's result, 1, 2 or 4; its outputs are interpolated to the size
        of the image. The finer levels cost most of the time of a network.
      norm: norm of the encoder, `weight`, `layer`, `group`, `frozen_batch` or `none`. The first three are
        for training from scratch; with `group`, predictions depend on the window of the image.
        Published weights of VGG need `none`; those of ResNets, and of VGGs with `bn` in the name, need
        `frozen_batch`.
      decoder_norm: norm of the decoder.
      dtype: dtype of the computation, `float32` or `bfloat16`; parameters and outputs are float32.
      remat: recompute the activations of each stage in the backward pass: less memory, more time.
    """

    encoder: str = "vgg16"
    decoder: str = "transposed"
    width: Positive = 1.0
    skips: bool = True
    merge: str = "concatenate"
    interpolation: str = "bilinear"
    channels: Sequence[Count] | None = None
    convolutions: NonNegativeInt = 2
    output_stride: Count = 1
    norm: str = "group"
    decoder_norm: str = "group"
    dtype: str = "float32"
    remat: bool = False


def create_segmenter(
    encoder: str | SegmenterConfig = "vgg16",
    *,
    classes: int | None = None,
    outputs: Mapping[str, int] | None = None,
    **settings: Any,
) -> Segmenter:
    """Makes an encoder-decoder network for dense outputs.

    Args:
      encoder: a name in `ENCODERS`, or a `SegmenterConfig`.
      classes: short for `outputs={"classes": classes}`.
      outputs: number of channels of each output, by name.
      **settings: fields of `SegmenterConfig`.

    Raises:
      InputError: for an impossible setting; the message lists the possible ones.

    >>> import jax
    >>> segmenter = create_segmenter("vgg16", decoder="transposed", classes=3)
    >>> images = jax.numpy.zeros((1, 64, 48, 1))
    >>> variables = jax.eval_shape(segmenter.init, jax.random.key(0), images)
    >>> jax.eval_shape(segmenter.apply, variables, images)["classes"].shape
    (1, 64, 48, 3)
    """
    config = read_settings(SegmenterConfig, encoder, settings)
    if classes is not None and outputs is not None:
        raise InputError("classes is short for outputs: set one of them")
    outputs = dict(outputs or {}) if classes is None else {"classes": classes}
    if not outputs or min(outputs.values()) < 1:
        raise InputError(f"outputs must name at least one output and its channels, not {outputs}")
    backbone = create_encoder(
        config.encoder, width=config.width, norm=config.norm, dtype=config.dtype, remat=config.remat
    )
    return Segmenter(backbone, _create_decoder(config, backbone.strides), outputs)


def _create_decoder(config: SegmenterConfig, strides: tuple[int, ...]) -> Decoder:
    double = choose(DECODERS, "decoder", config.decoder)
    if double is Interpolation:
        choose(("nearest", "bilinear"), "interpolation", config.interpolation)
        double = partial(double, method=config.interpolation)
    channels = None if config.channels is None else tuple(config.channels)
    if config.output_stride not in (1, 2, 4):
        raise InputError(
            f"output_stride must be 1, 2 or 4, not {config.output_stride}", field="output_stride"
        )
    count = len(strides) - 1 + (strides[0] > 1) - (config.output_stride.bit_length() - 1)
    if channels is not None and (len(channels) != count or min(channels) < 1):
        raise InputError(
            f"channels must be {count} positive numbers for the decoder of {config.encoder}, not {channels}",
            field="channels",
        )
    dtype = choose(DTYPES, "dtype", config.dtype)
    return Decoder(
        strides=strides,
        double=double,
        skips=config.skips,
        merge=choose(("concatenate", "add"), "merge", config.merge),
        channels=channels,
        count=config.convolutions,
        output_stride=config.output_stride,
        norm=make_norm("decoder_norm", config.decoder_norm, dtype),
        dtype=dtype,
        remat=config.remat,
    )


def read_settings(kind: type[T], given: str | T, settings: Mapping[str, Any]) -> T:
    """Returns the settings of a network.

    Args:
      kind: their dataclass, whose first field is a name.
      given: the name, or all settings.
      settings: further fields, by name.

    Raises:
      InputError: if there is no such field, or fields are given beside all settings.
    """
    make: Any = kind
    for name in settings:
        choose([field.name for field in dataclasses.fields(make)], "setting", name)
    if isinstance(given, str):
        return cast(T, make(given, **settings))
    if settings:
        raise InputError(f"set {', '.join(settings)} in the {kind.__name__}, not beside it")
    return given


def make_norm(field: str, name: str, dtype: Any) -> Callable[..., nn.Module] | None:
    """Returns the factory of a norm by its name in `NORMS`."""
    norm = choose(NORMS, field, name)
    return None if norm is None else partial(norm, dtype=dtype)
