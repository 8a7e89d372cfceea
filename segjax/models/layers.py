"""The layers that encoders and decoders are built from, in forms whose gradients are fast."""

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.typing import Array, Params, PyTree

Norm = Callable[..., nn.Module]

# Keeps the variance through a ReLU (He et al., https://arxiv.org/abs/1502.01852). Not truncated: that
# compiles for longer and makes no difference to training.
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class GroupNorm(nn.Module):
    """Normalises groups of channels over the pixels of one image (https://arxiv.org/abs/1803.08494).

    y = (x - mean) / sqrt(var + epsilon) * scale + bias, with mean and var of the group.

    Attributes:
      groups: at most so many, fewer where a group would hold less than four channels; always a divisor of
        the channels.
      epsilon: added to the variance.
      dtype: of the result; statistics and parameters are float32.
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
        # Mean and variance of each channel first, then of its group: exact, and unlike E[x^2] - E[x]^2 it
        # does not cancel for images whose mean is far above their contrast.
        mean = x.mean((1, 2), keepdims=True)  # [B, 1, 1, C]
        var = jnp.square(x - mean).mean((1, 2), keepdims=True)
        groups = (batch, 1, 1, divisor(channels, min(self.groups, channels // 4)), -1)
        mean_of_group = mean.reshape(groups).mean(-1, keepdims=True)
        between = jnp.square(mean.reshape(groups) - mean_of_group)
        var_of_group = (var.reshape(groups) + between).mean(-1, keepdims=True)
        mean, var = (
            jnp.broadcast_to(value, value.shape[:-1] + between.shape[-1:]).reshape(mean.shape)
            for value in (mean_of_group, var_of_group)
        )
        factor = jax.lax.rsqrt(var + self.epsilon) * scale.reshape(1, 1, 1, -1)
        return (x * factor + (bias.reshape(1, 1, 1, -1) - mean * factor)).astype(self.dtype)


def divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is not above `limit`; 1 if there is none."""
    return next((d for d in range(limit, 1, -1) if number % d == 0), 1)


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with constant statistics: y = (x - mean) / sqrt(var + epsilon) * scale + bias.

    For imported weights. All four vectors are in `params`, and no gradient reaches them; `frozen` tells an
    optimizer which they are, lest it decay them.

    Attributes:
      epsilon: added to the variance; 1e-5 is torchvision's.
      dtype: of the result.
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


NORMS: dict[str, type[nn.Module] | None] = {"group": GroupNorm, "frozen_batch": FrozenBatchNorm, "none": None}


def frozen(params: Params) -> PyTree:
    """Says which parameters are constants.

    Args:
      params: of any model.

    Returns:
      The same tree with True at the leaves of every `FrozenBatchNorm`, known by its `mean` and `var`, which
      nothing that is trained has.
    """
    constant = {"mean", "var"} <= set(params)
    return {name: frozen(value) if isinstance(value, Mapping) else constant for name, value in params.items()}


class Convolutions(nn.Module):
    """`count` times: a 3 x 3 convolution, a norm, a ReLU.

    Attributes:
      count: how many; with 0 the layer is the identity.
      channels: of each.
      norm: makes the normalisation after each convolution, or None.
      dtype: of the computation; parameters are float32.
    """

    count: int
    channels: int
    norm: Norm | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, H, W, channels]."""
        for index in range(1, self.count + 1):
            x = nn.Conv(self.channels, (3, 3), kernel_init=he_normal, dtype=self.dtype, name=f"conv{index}")(
                x
            )
            if self.norm is not None:
                x = self.norm(name=f"norm{index}")(x)
            x = nn.relu(x)
        return x


class Convolution(nn.Module):
    """A convolution that keeps the size, and a norm; it has a bias where it has no norm.

    Attributes:
      channels: of the result.
      size: of the kernel.
      norm: makes the normalisation, or None.
      dtype: of the computation; parameters are float32.
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
            name="conv",
        )(x)
        return x if self.norm is None else self.norm(name="norm")(x)


class TransposedConvolution(nn.Module):
    """A 2 x 2 transposed convolution with stride 2: y[2h + i, 2w + j] = x[h, w] kernel[i, j] + bias.

    Because the kernel equals the stride it is one matrix product and a shuffle of pixels, whose gradient
    takes a tenth of the time that of the general form takes on CPU.

    Attributes:
      channels: of the result.
      dtype: of the computation; parameters are float32.
    """

    channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, 2H, 2W, channels]."""
        batch, height, width, channels = x.shape
        # One position of the kernel reaches each output pixel: the other three are no fan-in.
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=(0, 1))
        kernel = self.param("kernel", init, (2, 2, channels, self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = jnp.einsum("bhwc,ijco->bhiwjo", x, kernel)
        return y.reshape(batch, 2 * height, 2 * width, self.channels) + bias.reshape(1, 1, 1, -1)


class Interpolation(nn.Module):
    """A 1 x 1 convolution, then the image at twice the size.

    In this order because the two commute and so the convolution costs a quarter.

    Attributes:
      channels: of the result.
      method: `nearest` or `bilinear`.
      dtype: of the computation; parameters are float32.
    """

    channels: int
    method: str = "bilinear"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to [B, 2H, 2W, channels]."""
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        x = nn.Conv(self.channels, (1, 1), kernel_init=init, dtype=self.dtype, name="projection")(x)
        return double(x, method=self.method)


def double(x: Array, *, method: str) -> Array:
    """Doubles height and width, pixel centres at halves, the edge repeated.

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
    """`x[..., start:stop:stride, ...]` along `axis`."""
    return jax.lax.slice_in_dim(x, start, stop, stride, axis)


def max_pool(x: Array, *, window: int = 2) -> Array:
    """The maximum of `window` x `window` pixels, with stride 2.

    Outside the image is minus infinity. An odd side is rounded up, so that no pixel is lost; window 3
    begins one pixel outside, as PyTorch's padding of 1 does. As maxima of strided slices: the gradient of
    the general form takes ten times as long on CPU. Where maxima tie, they share the gradient.

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
