"""Decoders: from the features of an encoder to the resolution of the image."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import Convolutions, TransposedConvolution, pointwise_convolution
from segjax.models.norms import Norm
from segjax.typing import Array


class DecoderStage(nn.Module):
    """Doubles the resolution, merges the skip connection, and convolves.

    Attributes:
      size: `(H, W)` of the result, each at most twice the input's.
      channels: number of output channels.
      double: factory of the layer that doubles the resolution.
      merge: how the skip connection is merged: `concatenate` (U-Net), or `add` after a 1 x 1 convolution
        (FCN).
      count: number of 3 x 3 convolutions.
      norm: factory of the normalisation after each convolution, or None.
      dtype: dtype of the computation; parameters are float32.
    """

    size: tuple[int, int]
    channels: int
    double: Callable[..., nn.Module]
    merge: str
    count: int
    norm: Norm | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, skip: Array | None) -> Array:
        """Maps [B, h, w, C], and a skip connection [B, H, W, C'] or None, to [B, H, W, channels]."""
        x = self.double(self.channels, dtype=self.dtype, name="double")(x)
        # Encoders round odd sides up.
        x = x[:, : self.size[0], : self.size[1]]
        if skip is not None and self.merge == "add":
            x = x + pointwise_convolution(self.channels, dtype=self.dtype, name="skip")(skip)
        elif skip is not None:
            x = jnp.concatenate([skip, x], axis=-1)
        return Convolutions(self.count, self.channels, self.norm, self.dtype, name="convolutions")(x)


class Decoder(nn.Module):
    """Stages that double the resolution until it is that of the image.

    With concatenated skips it is a U-Net (https://arxiv.org/abs/1505.04597). Without skips it is a SegNet
    (https://arxiv.org/abs/1511.00561) that has no max-pooling indices. With added skips and no 3 x 3
    convolutions it is an FCN (https://arxiv.org/abs/1411.4038).

    Attributes:
      strides: strides of the input features, fine to coarse, each twice the one before.
      double: factory of the layer that doubles the resolution: `TransposedConvolution` or `Interpolation`.
      skips: whether the features of every resolution are used, or only the coarsest.
      merge: `concatenate` or `add`.
      channels: output channels of each stage, coarse to fine. None for half of the encoder's channels at the
        same resolution or, if the encoder has no such resolution, half of the previous stage's.
      count: number of 3 x 3 convolutions in a stage.
      output_stride: stride of the result; finer features are not used.
      norm: factory of the normalisation after each convolution, or None.
      dtype: dtype of the computation; parameters are float32.
      remat: recompute the activations of a stage in the backward pass instead of storing them.
    """

    strides: tuple[int, ...]
    double: Callable[..., nn.Module] = TransposedConvolution
    skips: bool = True
    merge: str = "concatenate"
    channels: tuple[int, ...] | None = None
    count: int = 2
    output_stride: int = 1
    norm: Norm | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, features: Sequence[Array], size: tuple[int, int]) -> Array:
        """Decodes features.

        Args:
          features: [B, ceil(H / s), ceil(W / s), C'] for each stride s.
          size: `(H, W)` of the image.

        Returns:
          [B, ceil(H / output_stride), ceil(W / output_stride), channels[-1]].
        """
        *finer, x = features
        skips: list[Array | None] = [*reversed(finer), *([None] if self.strides[0] > 1 else [])]
        widths = self.channels or default_channels([f.shape[-1] for f in features], self.strides)
        if unused := self.output_stride.bit_length() - 1:
            skips, widths = skips[:-unused], widths[: len(skips) - unused]
        stage = nn.remat(DecoderStage) if self.remat else DecoderStage
        for index, (skip, channels) in enumerate(zip(skips, widths, strict=True), start=1):
            height, width = size if skip is None else skip.shape[1:3]
            x = stage(
                size=(height, width),
                channels=channels,
                double=self.double,
                merge=self.merge,
                count=self.count,
                norm=self.norm,
                dtype=self.dtype,
                name=f"stage{index}",
            )(x, skip if self.skips else None)
        return x


def default_channels(encoder: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Returns the channels of the stages, coarse to fine, for an encoder's channels, fine to coarse."""
    channels = [max(width // 2, 1) for width in reversed(encoder[:-1])]
    return channels if strides[0] == 1 else [*channels, max(channels[-1] // 2, 1)]
