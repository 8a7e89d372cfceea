"""Backbones of detectors: an encoder with or without a feature pyramid."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import Convolution, slice_axis
from segjax.models.norms import Norm
from segjax.typing import Array


class FeaturePyramid(nn.Module):
    """Adds the upsampled coarser map to each map, so that all resolutions have semantically strong features.

    Attributes:
      channels: channels of every map of the pyramid.
      norm: factory of the normalisation after each convolution, or None as in the paper.
      dtype: dtype of the computation; parameters are float32.

    References:
      Lin et al., https://arxiv.org/abs/1612.03144; torchvision.ops.FeaturePyramidNetwork.
    """

    channels: int = 256
    norm: Norm | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Sequence[Array]) -> list[Array]:
        """Builds the pyramid.

        Args:
          features: [B, H, W, C'] float, fine to coarse, each side at least half of the previous map's.

        Returns:
          One map of the same size for each input, [B, H, W, channels], and one at half the coarsest
          resolution.
        """
        pyramid: list[Array] = []
        coarser: Array | None = None
        for index in reversed(range(len(features))):
            lateral = self.convolution(1, f"lateral{index + 1}")(features[index])
            if coarser is not None:
                lateral = lateral + enlarge(coarser, lateral.shape[1:3])
            coarser = lateral
            pyramid.insert(0, self.convolution(3, f"output{index + 1}")(lateral))
        coarsest = pyramid[-1]
        for axis in (1, 2):
            coarsest = slice_axis(coarsest, axis, 0, coarsest.shape[axis], 2)
        return [*pyramid, coarsest]

    def convolution(self, size: int, name: str) -> Convolution:
        """Makes a convolution with the settings of the pyramid."""
        return Convolution(self.channels, size, self.norm, self.dtype, name=name)


def enlarge(x: Array, shape: tuple[int, ...]) -> Array:
    """Enlarges [B, h, w, C] to a shape (H, W) by nearest neighbours, rounded as in PyTorch."""
    for axis, size in zip((1, 2), shape, strict=True):
        old = x.shape[axis]
        if size == 2 * old:
            x = jnp.repeat(x, 2, axis)
        elif size != old:
            x = jnp.take(x, jnp.arange(size) * old // size, axis)
    return x


class Backbone(nn.Module):
    """An encoder, with a pyramid of its coarsest maps or with its last map alone.

    Attributes:
      encoder: returns a list of maps, fine to coarse.
      pyramid: feature pyramid of the coarsest maps; None returns the last map alone.
      levels: number of the encoder's coarsest maps in the pyramid.
    """

    encoder: nn.Module
    pyramid: FeaturePyramid | None
    levels: int = 4

    @nn.compact
    def __call__(self, images: Array) -> list[Array]:
        """Maps images [B, H, W, C] to feature maps, fine to coarse."""
        features = self.encoder(images)
        return features[-1:] if self.pyramid is None else self.pyramid(features[-self.levels :])
