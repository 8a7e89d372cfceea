"""Layers of encoders and decoders, written so that their gradients are fast."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.ops.convolution import winograd_conv_general_dilated
from segjax.typing import Array, Params, PyTree

Norm = Callable[..., nn.Module]

# Preserves the variance through a ReLU (He et al., https://arxiv.org/abs/1502.01852). A truncated normal
# takes longer to compile and makes no difference to training.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# 1 / the standard deviation of the ReLU of a normal value.
RELU_GAIN = math.sqrt(2 / (1 - 1 / math.pi))


class GroupNorm(nn.Module):
    """Normalises groups of channels over the pixels of one image (https://arxiv.org/abs/1803.08494).

    y = (x - mean) / sqrt(var + epsilon) * scale + bias, with mean and var of the group.

    Attributes:
      groups: maximum number of groups. The number used divides the channels, and leaves at least four
        channels per group.
      epsilon: added to the variance.
      dtype: dtype of the result; statistics and parameters are float32.
    """

    groups: int = 32
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalises `x` [B, H, W, C]."""
        batch, _, _, channels = x.shape
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x = x.astype(jnp.float32)
        # Flax's GroupNorm is not used. Without fast variance, it adds 3 to 8 % to the CPU time of a training
        # step of the VGG16 U-Net. Its fast variance, E[x^2] - E[x]^2, suffers from cancellation in raw
        # microscopy images.
        # The mean and variance of a group follow exactly from those of its channels.
        mean = x.mean((1, 2), keepdims=True)  # [B, 1, 1, C]
        var = jnp.square(x - mean).mean((1, 2), keepdims=True)
        groups = (batch, 1, 1, divisor(channels, min(self.groups, channels // 4)), -1)
        group_mean = mean.reshape(groups).mean(-1, keepdims=True)
        between = jnp.square(mean.reshape(groups) - group_mean)
        group_var = (var.reshape(groups) + between).mean(-1, keepdims=True)
        mean, var = (
            jnp.broadcast_to(value, value.shape[:-1] + between.shape[-1:]).reshape(mean.shape)
            for value in (group_mean, group_var)
        )
        factor = jax.lax.rsqrt(var + self.epsilon) * scale.reshape(1, 1, 1, -1)
        return (x * factor + (bias.reshape(1, 1, 1, -1) - mean * factor)).astype(self.dtype)


def divisor(number: int, limit: int) -> int:
    """Returns the largest divisor of `number` up to `limit`; at least 1."""
    return next((d for d in range(limit, 1, -1) if number % d == 0), 1)


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with constant statistics: y = (x - mean) / sqrt(var + epsilon) * scale + bias.

    For imported weights. All four vectors are in `params` but get no gradient; `frozen` marks them, so that
    the optimizer does not decay them.

    Attributes:
      epsilon: added to the variance; 1e-5 is torchvision's.
      dtype: dtype of the result.
    """

    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalises `x` [B, H, W, C]."""
        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        inits = {"scale": ones, "bias": zeros, "mean": zeros, "var": ones}
        vectors = {name: self.param(name, init, x.shape[-1:]) for name, init in inits.items()}
        scale, bias, mean, var = jax.lax.stop_gradient(tuple(vectors.values()))
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        offset = bias - mean * factor
        shape = (1, 1, 1, -1)
        return x.astype(self.dtype) * factor.reshape(shape).astype(self.dtype) + offset.reshape(shape).astype(
            self.dtype
        )


class LayerNorm(nn.Module):
    """Normalises the channels of each pixel (https://arxiv.org/abs/1607.06450), as in ConvNeXt.

    It depends on no other pixel, so that a prediction does not depend on the window of the image.

    Attributes:
      epsilon: added to the variance.
      dtype: dtype of the result; statistics and parameters are float32.
    """

    epsilon: float = 1e-3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalises `x` [B, H, W, C]."""
        return nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, use_fast_variance=False, name="norm")(x)


class WeightStandardization(nn.Module):
    """A scale and a bias for each channel, after a convolution whose kernel is standardised.

    The kernel is that of `standardise`, so that activations keep their variance without a norm
    (https://arxiv.org/abs/2102.06171). They depend on no other pixel, and dim pixels stay dim.

    Attributes:
      zero_init: whether the scale starts at zero, as at the end of a residual branch: otherwise, the variance
        doubles with each residual block.
      dtype: dtype of the result; parameters are float32.
    """

    zero_init: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Scales and shifts `x` [B, H, W, C]."""
        init = nn.initializers.zeros if self.zero_init else nn.initializers.ones
        scale = self.param("scale", init, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        x, scale, bias = nn.dtypes.promote_dtype(x, scale, bias, dtype=self.dtype)
        return x * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)


NORMS: dict[str, type[nn.Module] | None] = {
    "group": GroupNorm,
    "layer": LayerNorm,
    "weight": WeightStandardization,
    "frozen_batch": FrozenBatchNorm,
    "none": None,
}


def is_weight_standardization(norm: Norm | None) -> bool:
    """Returns whether the factory of a norm makes `WeightStandardization`."""
    return getattr(norm, "func", norm) is WeightStandardization


def convolution(norm: Norm | None) -> Callable[..., Array]:
    """Returns the convolution before a norm, for `conv_general_dilated` of `nn.Conv`."""
    return standardised_convolution if is_weight_standardization(norm) else winograd_conv_general_dilated


def standardised_convolution(x: jax.Array, kernel: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """Convolves `x` [B, H, W, C] with `standardise(kernel)` [h, w, C, C']."""
    return winograd_conv_general_dilated(x, standardise(kernel), *args, **kwargs)


def standardise(kernel: jax.Array) -> jax.Array:
    """Standardises the weights of each output channel, such that a convolution preserves the variance.

    w' = (w - mean) / std * gain / sqrt(fan_in), with the gain of a ReLU of normal values.

    Args:
      kernel: [h, w, C, C'].

    Returns:
      [h, w, C, C'] of the same dtype.
    """
    weights = kernel.astype(jnp.float32)
    centred = weights - weights.mean((0, 1, 2), keepdims=True)
    squares = jnp.sum(centred**2, (0, 1, 2), keepdims=True)
    return (centred * (RELU_GAIN * jax.lax.rsqrt(jnp.maximum(squares, 1e-8)))).astype(kernel.dtype)


def frozen(params: Params) -> PyTree:
    """Returns a tree like `params`, True at the parameters of every `FrozenBatchNorm`, which are constants.

    A module with `mean` and `var` is a `FrozenBatchNorm`: no trained module has these parameters.
    """
    constant = {"mean", "var"} <= set(params)
    return {name: frozen(value) if isinstance(value, Mapping) else constant for name, value in params.items()}


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
        x = nn.Conv(self.channels, (1, 1), kernel_init=init, dtype=self.dtype, name="projection")(x)
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
