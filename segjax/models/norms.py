"""Norms after convolutions, and the convolutions before them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.ops.convolution import conv_general_dilated
from segjax.typing import Array, Params, PyTree

Norm = Callable[..., nn.Module]

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

    The result for a pixel does not depend on other pixels, so that predictions do not depend on windows.

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

    The convolution standardises its kernel by `standardise`, so that the variance of activations is preserved
    without a norm (https://arxiv.org/abs/2102.06171). Unlike a norm, it uses no statistics of the image, and
    dim pixels stay dim.

    Attributes:
      zero_init: whether the scale starts at zero, as at the end of a residual branch. With ones, the variance
        would double with each residual block.
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
    """Returns the function for `conv_general_dilated` of the `nn.Conv` before a norm."""
    return standardised_convolution if is_weight_standardization(norm) else conv_general_dilated


def standardised_convolution(x: jax.Array, kernel: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """Convolves `x` [B, H, W, C] with `standardise(kernel)` [h, w, C, C']."""
    return conv_general_dilated(x, standardise(kernel), *args, **kwargs)


def standardise(kernel: jax.Array) -> jax.Array:
    """Standardises the weights of each output channel, so that a convolution preserves the variance.

    w' = (w - mean) / std * gain / sqrt(fan_in), with the gain of a ReLU of normal values.

    Args:
      kernel: [h, w, C, C'], the weights of a convolution.

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
