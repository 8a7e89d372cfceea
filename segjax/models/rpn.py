"""The region proposal network: objectness and box deltas of every anchor."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import Convolution, pointwise_convolution
from segjax.typing import Array

small_normal = nn.initializers.normal(0.01)


class RegionProposals(nn.Module):
    """3 x 3 convolutions, then a logit and four deltas for every anchor, with the same weights for all maps.

    Attributes:
      num_anchors: A, number of anchors per position.
      convolutions: number of 3 x 3 convolutions; 1 in the paper.
      dtype: dtype of the computation; parameters and results are float32.

    References:
      Ren et al., https://arxiv.org/abs/1506.01497; torchvision.models.detection.rpn.RPNHead.
    """

    num_anchors: int
    convolutions: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """Scores the anchors.

        Args:
          features: [B, H, W, C] float, all with the same C.

        Returns:
          Logits [B, H * W * A] and deltas [B, H * W * A, 4] of each map, in the order of
          `ops.anchors.grid_anchors`.
        """
        channels = features[0].shape[-1]
        layers = [
            Convolution(channels, 3, None, self.dtype, name=f"conv{index + 1}")
            for index in range(self.convolutions)
        ]
        to_logits = pointwise_convolution(self.num_anchors, kernel_init=small_normal, name="logits")
        to_deltas = pointwise_convolution(4 * self.num_anchors, kernel_init=small_normal, name="deltas")
        logits, deltas = [], []
        for x in features:
            for layer in layers:
                x = nn.relu(layer(x))
            x = x.astype(jnp.float32)
            logits.append(to_logits(x).reshape(len(x), -1))
            deltas.append(to_deltas(x).reshape(len(x), -1, 4))
        return logits, deltas
