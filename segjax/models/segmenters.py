"""Encoder-decoder networks by name: an encoder, a decoder and a 1 x 1 convolution for every output."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import InputError, choose
from segjax.models import resnet, vgg
from segjax.models.decoder import Decoder
from segjax.models.layers import NORMS, FrozenBatchNorm, Interpolation, TransposedConvolution
from segjax.typing import Array, Outputs

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "vgg11": partial(vgg.VGG, convolutions=vgg.VARIANTS["vgg11"]),
    "vgg13": partial(vgg.VGG, convolutions=vgg.VARIANTS["vgg13"]),
    "vgg16": partial(vgg.VGG, convolutions=vgg.VARIANTS["vgg16"]),
    "vgg19": partial(vgg.VGG, convolutions=vgg.VARIANTS["vgg19"]),
    "resnet18": partial(resnet.ResNet, **resnet.VARIANTS["resnet18"]),
    "resnet34": partial(resnet.ResNet, **resnet.VARIANTS["resnet34"]),
    "resnet50": partial(resnet.ResNet, **resnet.VARIANTS["resnet50"]),
    "resnet101": partial(resnet.ResNet, **resnet.VARIANTS["resnet101"]),
    # Keras's and Caffe's: another convolution of each block strides.
    "resnet50_v1": partial(resnet.ResNet, **resnet.VARIANTS["resnet50_v1"]),
    "resnet101_v1": partial(resnet.ResNet, **resnet.VARIANTS["resnet101_v1"]),
}
# By the layer that doubles their resolution.
DECODERS: dict[str, Callable[..., nn.Module]] = {
    "transposed": TransposedConvolution,
    "upsample": Interpolation,
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Segmenter(nn.Module):
    """Maps images to maps of the same size.

    The images pass a constant affine first, `input`: the identity, until `weights.load_encoder` makes it the
    preprocessing that the loaded weights were trained with. So it is exact also where the encoder pads, it is
    in every checkpoint, and the rest of segjax knows of one range of images only.

    Attributes:
      encoder: returns a list of features, fine to coarse.
      decoder: maps them and the size of the image to [B, H, W, C'].
      outputs: channels of each output, by name.
    """

    encoder: nn.Module
    decoder: nn.Module
    outputs: Mapping[str, int]

    @nn.compact
    def __call__(self, images: Array) -> Outputs:
        """Maps images to logits.

        Args:
          images: [B, H, W, C] float, of any size, about 0 to 1.

        Returns:
          For each of `outputs` logits [B, H, W, channels], float32.
        """
        x = FrozenBatchNorm(epsilon=0.0, name="input")(images)
        x = self.decoder(self.encoder(x), images.shape[1:3]).astype(jnp.float32)
        # Not smaller: with weights of 0.01 the heads alone took a hundred steps to grow.
        init = nn.initializers.lecun_normal()
        return {
            name: nn.Conv(channels, (1, 1), kernel_init=init, name=f"head_{name}")(x)
            for name, channels in self.outputs.items()
        }


def create_encoder(
    name: str, *, width: float = 1.0, norm: str = "group", dtype: str = "float32", remat: bool = False
) -> nn.Module:
    """Makes an encoder; see `create_segmenter` for the arguments."""
    encoder = choose(ENCODERS, "encoder", name)
    dtype = choose(DTYPES, "dtype", dtype)
    if not width > 0:
        raise InputError(f"width multiplies the channels and must be above 0, not {width}")
    return encoder(width=width, norm=make_norm("norm", norm, dtype), dtype=dtype, remat=remat)


def create_segmenter(
    *,
    encoder: str = "vgg16",
    decoder: str = "transposed",
    width: float = 1.0,
    skips: bool = True,
    merge: str = "concatenate",
    interpolation: str = "bilinear",
    channels: Sequence[int] | None = None,
    convolutions: int = 2,
    norm: str = "group",
    decoder_norm: str = "group",
    dtype: str = "float32",
    remat: bool = False,
    outputs: Mapping[str, int],
) -> nn.Module:
    """Makes an encoder-decoder network for dense outputs.

    Args:
      encoder: a name in `ENCODERS`.
      decoder: a name in `DECODERS`.
      width: multiplies the encoder's channels; published weights have 1.
      skips: whether the decoder sees the encoder's finer features.
      merge: `concatenate` or `add`, how it sees them.
      interpolation: `nearest` or `bilinear`, of the decoder `upsample`.
      channels: of the decoder's stages, coarse to fine; half the encoder's if None.
      convolutions: 3 x 3, in each stage of the decoder.
      norm: `group`, `frozen_batch` or `none`, of the encoder: what its weights were trained with.
        Published VGG weights have none (those called `bn`: frozen batch norm), ResNets frozen batch norm;
        `group` is for training from scratch.
      decoder_norm: likewise, of the decoder.
      dtype: `float32` or `bfloat16`, of the computation; parameters and outputs are float32.
      remat: recompute the activations of each stage in the backward pass: less memory, more time.
      outputs: channels of each output, by name.

    Returns:
      A module: `init(key, images [B, H, W, C])` gives `{"params": ...}`, `apply(variables, images)` gives for
      each output float32 [B, H, W, channels].

    Raises:
      InputError: for a name or number that is not possible; the message lists those that are.
    """
    backbone = create_encoder(encoder, width=width, norm=norm, dtype=dtype, remat=remat)
    double = choose(DECODERS, "decoder", decoder)
    if double is Interpolation:
        choose({"nearest": None, "bilinear": None}, "interpolation", interpolation)
        double = partial(double, method=interpolation)
    choose({"concatenate": None, "add": None}, "merge", merge)
    count = len(backbone.strides) - (backbone.strides[0] == 1)
    if channels is not None and (len(channels) != count or min(channels) < 1):
        raise InputError(
            f"channels must be {count} positive numbers for the decoder of {encoder}, not {tuple(channels)}"
        )
    if convolutions < 0:
        raise InputError(f"convolutions must be at least 0, not {convolutions}")
    if not outputs or min(outputs.values()) < 1:
        raise InputError(f"outputs must name at least one output and its channels, not {dict(outputs)}")
    return Segmenter(
        encoder=backbone,
        decoder=Decoder(
            strides=backbone.strides,
            double=double,
            skips=skips,
            merge=merge,
            channels=None if channels is None else tuple(channels),
            count=convolutions,
            norm=make_norm("decoder_norm", decoder_norm, choose(DTYPES, "dtype", dtype)),
            dtype=choose(DTYPES, "dtype", dtype),
            remat=remat,
        ),
        outputs=dict(outputs),
    )


def make_norm(field: str, name: str, dtype: Any) -> Callable[..., nn.Module] | None:
    """The factory of a norm by its name in `NORMS`."""
    norm = choose(NORMS, field, name)
    return None if norm is None else partial(norm, dtype=dtype)
