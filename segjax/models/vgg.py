"""VGG encoders (Simonyan and Zisserman, https://arxiv.org/abs/1409.1556)."""

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import Convolutions, max_pool
from segjax.models.norms import Norm
from segjax.typing import Array

# Number of convolutions in each of the five stages.
VARIANTS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
CHANNELS = (64, 128, 256, 512, 512)
STRIDES = (1, 2, 4, 8, 16)


class VGG(nn.Module):
    """Five stages of 3 x 3 convolutions with 2 x 2 max-pools between them.

    Attributes:
      convolutions: number of convolutions in each stage, as in `VARIANTS`.
      width: multiplies the channels; 1 in the paper.
      norm: factory of the normalisation after each convolution, or None as in the paper. The
        convolutions have biases in both cases, as in torchvision.
      dtype: dtype of the computation; parameters are float32.
      remat: recompute the activations of a stage in the backward pass instead of storing them.
    """

    convolutions: tuple[int, ...] = VARIANTS["vgg16"]
    width: float = 1.0
    norm: Norm | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    strides = STRIDES

    @nn.compact
    def __call__(self, images: Array) -> list[Array]:
        """Encodes images.

        Args:
          images: [B, H, W, C] float, normalised as the weights expect.

        Returns:
          One feature map for each stride s in `STRIDES`, [B, ceil(H / s), ceil(W / s), width * CHANNELS],
          before the max-pool.
        """
        stage = nn.remat(Convolutions) if self.remat else Convolutions
        features: list[Array] = []
        x = images.astype(self.dtype)
        for index, (count, channels) in enumerate(zip(self.convolutions, CHANNELS, strict=True), start=1):
            if features:
                x = max_pool(x)
            channels = max(round(self.width * channels), 1)
            x = stage(count, channels, self.norm, self.dtype, name=f"stage{index}")(x)
            features.append(x)
        return features
