"""ResNet encoders (He et al., https://arxiv.org/abs/1512.03385) with the numerics of torchvision."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segjax.models.layers import he_normal, max_pool
from segjax.models.norms import Norm, convolution, is_weight_standardization
from segjax.typing import Array

CHANNELS = (64, 128, 256, 512)
STRIDES = (2, 4, 8, 16, 32)


class Block(nn.Module):
    """Base of the residual blocks.

    Attributes:
      channels: channels of the 3 x 3 convolutions.
      stride: stride of one of the convolutions, and of the shortcut.
      norm: factory of the normalisation after each convolution, or None.
      dtype: dtype of the computation; parameters are float32.
    """

    channels: int
    stride: int = 1
    norm: Norm | None = None
    dtype: jnp.dtype = jnp.float32

    expansion = 1

    def convolve(
        self, x: Array, name: str, *, size: int = 1, stride: int = 1, expand: bool = False, last: bool = False
    ) -> Array:
        """Applies convolution `conv{name}`, padded as in PyTorch, which is not `SAME`, and its norm."""
        # Without a norm, branches that start at zero keep activations from growing with depth.
        init = nn.initializers.zeros if last and self.norm is None else he_normal
        x = nn.Conv(
            self.channels * (self.expansion if expand else 1),
            (size, size),
            strides=stride,
            padding=(size - 1) // 2,
            use_bias=self.norm is None,
            kernel_init=init,
            dtype=self.dtype,
            conv_general_dilated=convolution(self.norm),
            name=f"conv{name}",
        )(x)
        if self.norm is None:
            return x
        zero = {"zero_init": True} if last and is_weight_standardization(self.norm) else {}
        return self.norm(name=f"norm{name}", **zero)(x)

    def shortcut(self, x: Array) -> Array:
        """Returns `x`, or its projection if the block changes the shape."""
        if self.stride == 1 and x.shape[-1] == self.expansion * self.channels:
            return x
        return self.convolve(x, "_shortcut", stride=self.stride, expand=True)


class BasicBlock(Block):
    """Two 3 x 3 convolutions and a shortcut."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), channels]."""
        branch: Array = nn.relu(self.convolve(x, "1", size=3, stride=self.stride))
        branch = self.convolve(branch, "2", size=3, last=True)
        return nn.relu(branch + self.shortcut(x))


class Bottleneck(Block):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1, and a shortcut.

    Attributes:
      stride_first: whether the first 1 x 1 convolution has the stride, as in the paper, Keras and Caffe
        ("v1"). If False, the 3 x 3 convolution has it, as in torchvision ("v1.5"). Parameters have the same
        names and shapes in both.
    """

    stride_first: bool = False

    expansion = 4

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), 4 * channels]."""
        first, second = (self.stride, 1) if self.stride_first else (1, self.stride)
        branch: Array = nn.relu(self.convolve(x, "1", stride=first))
        branch = nn.relu(self.convolve(branch, "2", size=3, stride=second))
        branch = self.convolve(branch, "3", expand=True, last=True)
        return nn.relu(branch + self.shortcut(x))


class Stage(nn.Module):
    """Residual blocks of one resolution.

    Attributes:
      count: number of blocks.
      stride: stride of the first block; the others have 1.
      block: class of the blocks.
      settings: the other attributes of every block.
    """

    count: int
    stride: int
    block: type[Block]
    settings: dict[str, Any]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), C']."""
        for index in range(1, self.count + 1):
            x = self.block(stride=self.stride if index == 1 else 1, name=f"block{index}", **self.settings)(x)
        return x


# Number of blocks in each of the four stages, their class, and `stride_first`.
VARIANTS: dict[str, dict[str, Any]] = {
    "resnet18": {"blocks": (2, 2, 2, 2), "block": BasicBlock},
    "resnet34": {"blocks": (3, 4, 6, 3), "block": BasicBlock},
    "resnet50": {"blocks": (3, 4, 6, 3), "block": Bottleneck},
    "resnet101": {"blocks": (3, 4, 23, 3), "block": Bottleneck},
    "resnet50_v1": {"blocks": (3, 4, 6, 3), "block": Bottleneck, "stride_first": True},
    "resnet101_v1": {"blocks": (3, 4, 23, 3), "block": Bottleneck, "stride_first": True},
}


class ResNet(nn.Module):
    """A 7 x 7 stem, a 3 x 3 max-pool and four stages of residual blocks.

    Attributes:
      blocks: number of blocks in each stage, as in `VARIANTS`.
      block: `BasicBlock` or `Bottleneck`.
      stride_first: see `Bottleneck`.
      width: multiplies the channels; 1 in the paper.
      norm: factory of the normalisation after each convolution. Without it the convolutions have biases.
      dtype: dtype of the computation; parameters are float32.
      remat: recompute the activations of a stage in the backward pass instead of storing them.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    block: type[Block] = Bottleneck
    stride_first: bool = False
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
          One feature map for each stride s in `STRIDES`, [B, ceil(H / s), ceil(W / s), C']. The first is
          that of the stem and has width * 64 channels; the others are those of the stages and have
          width * CHANNELS * expansion channels.
        """
        channels = [max(round(self.width * channels), 1) for channels in CHANNELS]
        x = nn.Conv(
            channels[0],
            (7, 7),
            strides=2,
            padding=3,
            use_bias=self.norm is None,
            kernel_init=he_normal,
            dtype=self.dtype,
            conv_general_dilated=convolution(self.norm),
            name="conv",
        )(images.astype(self.dtype))
        if self.norm is not None:
            x = self.norm(name="norm")(x)
        features: list[Array] = [nn.relu(x)]
        x = max_pool(features[0], window=3)
        stage = nn.remat(Stage) if self.remat else Stage
        for index, count in enumerate(self.blocks):
            settings = {"channels": channels[index], "norm": self.norm, "dtype": self.dtype}
            if self.stride_first:
                settings["stride_first"] = True
            stride = 1 if index == 0 else 2
            x = stage(count, stride, self.block, settings, name=f"stage{index + 1}")(x)
            features.append(x)
        return features
