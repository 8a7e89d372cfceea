"""Box and mask heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.layers import Convolution, TransposedConvolution, he_normal, max_pool
from segjax.models.norms import Norm
from segjax.models.rpn import small_normal
from segjax.typing import Array


class BoxFeatures(nn.Module):
    """Optional convolutions, then fully connected layers.

    Attributes:
      channels: output channels of each fully connected layer.
      convolutions: number of 3 x 3 convolutions before them.
      convolution_channels: output channels of each convolution.
      norm: factory of the normalisation after each convolution, or None.
      dtype: dtype of the computation; parameters are float32.

    References:
      torchvision.models.detection.faster_rcnn: TwoMLPHead, FastRCNNConvFCHead.
    """

    channels: tuple[int, ...] = (1024, 1024)
    convolutions: int = 0
    convolution_channels: int = 256
    norm: Norm | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps RoIs [T, bins, bins, C] to [T, channels[-1]]."""
        for index in range(1, self.convolutions + 1):
            layer = Convolution(self.convolution_channels, 3, self.norm, self.dtype, name=f"conv{index}")
            x = nn.relu(layer(x))
        x = x.reshape(len(x), -1)
        for index, channels in enumerate(self.channels, start=6):
            x = nn.Dense(channels, kernel_init=he_normal, dtype=self.dtype, name=f"fc{index}")(x)
            x = nn.relu(x)
        return x


class CropFeatures(nn.Module):
    """R-CNN's features: the encoder runs on the image crop of every RoI.

    Attributes:
      encoder: returns a list of maps, fine to coarse.
      head: applied to the last map after a max-pool, as in VGG; None for global average pooling, as in
        ResNet.
    """

    encoder: nn.Module
    head: BoxFeatures | None

    @nn.compact
    def __call__(self, crops: Array) -> Array:
        """Maps crops [T, S, S, C] to [T, C']."""
        x = self.encoder(crops)[-1]
        return x.mean((1, 2)) if self.head is None else self.head(max_pool(x))


class BoxPredictor(nn.Module):
    """Predicts the class logits of a RoI, and its box deltas for every class.

    Attributes:
      num_classes: K, background included.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Maps [T, C] to logits [T, K] and deltas [T, K, 4], float32."""
        x = x.astype(jnp.float32)
        logits = nn.Dense(self.num_classes, kernel_init=small_normal, name="logits")(x)
        init = nn.initializers.normal(0.001)
        deltas = nn.Dense(4 * self.num_classes, kernel_init=init, name="deltas")(x)
        return logits, deltas.reshape(len(x), self.num_classes, 4)


class MaskHead(nn.Module):
    """Predicts the mask of a RoI: convolutions, upsampling by 2, a logit for every class and pixel.

    Attributes:
      num_classes: K, background included.
      channels: output channels of each convolution.
      convolutions: number of 3 x 3 convolutions.
      norm: factory of the normalisation after each convolution, or None.
      dtype: dtype of the computation; parameters and the result are float32.

    References:
      He et al., https://arxiv.org/abs/1703.06870; torchvision.models.detection.mask_rcnn.
    """

    num_classes: int
    channels: int = 256
    convolutions: int = 4
    norm: Norm | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, classes: Array) -> Array:
        """Predicts the mask of one class for each RoI.

        Args:
          x: [T, bins, bins, C] float.
          classes: [T] int, the class of each mask. The other masks are not computed.

        Returns:
          Logits [T, 2 * bins, 2 * bins].
        """
        for index in range(1, self.convolutions + 1):
            x = nn.relu(Convolution(self.channels, 3, self.norm, self.dtype, name=f"conv{index}")(x))
        x = nn.relu(TransposedConvolution(self.channels, self.dtype, name="double")(x)).astype(jnp.float32)
        kernel = self.param("kernel", he_normal, (self.channels, self.num_classes))
        bias = self.param("bias", nn.initializers.zeros, (self.num_classes,))
        # A one-hot product instead of indexing: its gradient is a product, not a scatter.
        one_hot = jax.nn.one_hot(classes, self.num_classes)
        class_kernel = jnp.einsum("tk,ck->tc", one_hot, kernel)
        return jnp.einsum("tyxc,tc->tyx", x, class_kernel) + (one_hot @ bias)[:, None, None]
