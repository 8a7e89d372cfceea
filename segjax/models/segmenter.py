"""An encoder, a decoder and a 1 x 1 convolution for every output."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import FrozenBatchNorm
from segjax.typing import Array, Outputs


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
