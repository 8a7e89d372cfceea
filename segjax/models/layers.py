"""Layers of encoders and decoders, written so that their gradients are fast."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.norms import Norm, convolution
from segjax.ops.convolution import conv_general_dilated
from segjax.typing import Array

# Preserves the variance through a ReLU (He et al., https://arxiv.org/abs/1502.01852). A truncated normal
# takes longer to compile and makes no difference to training.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# A 1 x 1 convolution. It takes the number of channels and the other fields of `nn.Conv`.
pointwise_convolution = functools.partial(
    nn.Conv, kernel_size=(1, 1), conv_general_dilated=conv_general_dilated
)


class Convolutions(nn.Module):
    """A stack of `count` blocks: 3 x 3 convolution, norm, ReLU.

    Attributes:
      count: number of blocks; with 0 the layer is the identity.
      channels: output channels of each convolution.
      norm: factory of the normalisation after each convolution, or None.
      dtype: dtype of the computation; parameters are float32.
    """

    count: int
    channels: int
    norm: Norm | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, H, W, channels]."""
        for index in range(1, self.count + 1):
            x = nn.Conv(
                self.channels,
                (3, 3),
                kernel_init=he_normal,
                dtype=self.dtype,
                conv_general_dilated=convolution(self.norm),
                name=f"conv{index}",
            )(x)
            if self.norm is not None:
                x = self.norm(name=f"norm{index}")(x)
            x = nn.relu(x)
        return x


class Convolution(nn.Module):
    """A convolution with stride 1 and a norm. It has a bias only without a norm.

    Attributes:
      channels: number of output channels.
      size: height and width of the kernel.
      norm: factory of the normalisation, or None.
      dtype: dtype of the computation; parameters are float32.
    """

    channels: int
    size: int = 3
    norm: Norm | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, H, W, channels]."""
        x = nn.Conv(
            self.channels,
            (self.size, self.size),
            use_bias=self.norm is None,
            kernel_init=he_normal,
            dtype=self.dtype,
            conv_general_dilated=convolution(self.norm),
            name="conv",
        )(x)
        return x if self.norm is None else self.norm(name="norm")(x)


class TransposedConvolution(nn.Module):
    """A 2 x 2 transposed convolution with stride 2: y[2h + i, 2w + j] = x[h, w] kernel[i, j] + bias.

    Since the kernel is as large as the stride, this is a matrix product and a reordering of pixels. On CPU
    its gradient takes a tenth of the time of a general transposed convolution's.

    Attributes:
      channels: number of output channels.
      dtype: dtype of the computation; parameters are float32.
    """

    channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, 2H, 2W, channels]."""
        batch, height, width, channels = x.shape
        # Only one of the four kernel positions contributes to an output pixel, so the fan-in is C.
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=(0, 1))
        kernel = self.param("kernel", init, (2, 2, channels, self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = jnp.einsum("bhwc,ijco->bhiwjo", x, kernel)
        return y.reshape(batch, 2 * height, 2 * width, self.channels) + bias.reshape(1, 1, 1, -1)


class Interpolation(nn.Module):
    """A 1 x 1 convolution, then upsampling by 2.

    The two commute, and the convolution costs a quarter at the lower resolution.

    Attributes:
      channels: number of output channels.
      method: `nearest` or `bilinear`.
      dtype: dtype of the computation; parameters are float32.
    """

    channels: int
    method: str = "bilinear"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, 2H, 2W, channels]."""
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        x = pointwise_convolution(self.channels, kernel_init=init, dtype=self.dtype, name="projection")(x)
        return upsample2x(x, method=self.method)


def upsample2x(x: Array, *, method: str) -> Array:
    """Doubles height and width, with pixel centres at half-integers and replicated edges.

    Args:
      x: [B, H, W, C].
      method: `nearest` or `bilinear`.

    Returns:
      [B, 2H, 2W, C].
    """
    for axis in (1, 2):
        if method == "nearest":
            even, odd = x, x
        else:
            size = x.shape[axis]
            before = jnp.concatenate([slice_axis(x, axis, 0, 1), slice_axis(x, axis, 0, size - 1)], axis)
            after = jnp.concatenate([slice_axis(x, axis, 1, size), slice_axis(x, axis, size - 1, size)], axis)
            even, odd = 0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after
        shape = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
        x = jnp.stack([even, odd], axis + 1).reshape(shape)
    return x


def slice_axis(x: Array, axis: int, start: int, stop: int, stride: int = 1) -> Array:
    """Returns `x[..., start:stop:stride, ...]` along `axis`."""
    return jax.lax.slice_in_dim(x, start, stop, stride, axis)


def max_pool(x: Array, *, window: int = 2) -> Array:
    """Max-pools windows of `window` x `window` pixels with stride 2.

    The padding is minus infinity. Odd sides are rounded up, so that no pixel is lost. A window of 3 starts
    one pixel outside the image, as with PyTorch's padding of 1. Pooling is a maximum of strided slices,
    because the gradient of `nn.max_pool` takes ten times as long on CPU. Equal maxima split the gradient.

    Args:
      x: [B, H, W, C] float.
      window: 2 or 3.

    Returns:
      [B, ceil(H / 2), ceil(W / 2), C].
    """
    before = (window - 1) // 2
    for axis in (1, 2):
        size = -(-x.shape[axis] // 2)
        after = max(2 * size - 2 + window - before - x.shape[axis], 0)
        padding = [(before, after) if a == axis else (0, 0) for a in range(x.ndim)]
        padded = jnp.pad(x, padding, constant_values=-jnp.inf)
        slices = [slice_axis(padded, axis, i, i + 2 * size - 1, 2) for i in range(window)]
        x = functools.reduce(jnp.maximum, slices)
    return x
