"""How far the outputs of a network depend on pixels of its input, computed from the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from segjax.models.norms import GroupNorm
from segjax.typing import Array, Outputs, Params

# Lengths of the strip of pixels on which the margin is measured. On the first one, no convolution uses
# Winograd's algorithm, which spreads NaN over its tiles.
LENGTHS = (480, 960, 1920, 3840)
# The probe runs a few times on few pixels, so that the time of the compilation counts.
OPTIONS = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": "True"}


class Margin(NamedTuple):
    """How far outputs depend on the input.

    Attributes:
      pixels: pixels of the input that are farther from an output pixel, along a row or column, do not change
        it. If `exact` is False, they change it through the statistics of `GroupNorm`, or in another way that
        has no limit.
      exact: whether this holds without exceptions.
    """

    pixels: int
    exact: bool


def receptive_margin(
    predict: Callable[[Params, Array], Outputs], params: Params, *, stride: int, channels: int
) -> Margin:
    """Computes the margin inside the edge of a window in which outputs depend on pixels outside.

    Part of a strip of pixels is NaN. A NaN spreads to every output that depends on it, with any parameters.
    The strip is a single row: kernels are square, so that columns have the same margin. `GroupNorm`
    normalises over the full image: the margin is that of the other layers, and it is not exact.

    Args:
      predict: `(params, images [1, H, W, C]) -> outputs`, each [1, H, W, ...].
      params: parameters of the network, all finite.
      stride: the edge of the window is at a multiple of it.
      channels: C.

    Returns:
      The margin. If a pixel depends on all others even without `GroupNorm`, 0 that is not exact.
    """
    device = _device()
    params = jax.device_put(params, device)
    with jax.default_device(device), jax.debug_nans(False):
        for length in LENGTHS:
            # jit would reuse the program of an equal function that was traced with the norm.
            with nn.intercept_methods(_skip_group_norm):
                without_norm = jax.jit(lambda *inputs: predict(*inputs), compiler_options=OPTIONS)
                pixels = _spread(without_norm, params, length, stride, channels)
            if pixels is not None:
                as_is = jax.jit(predict, compiler_options=OPTIONS)
                return Margin(pixels, _spread(as_is, params, length, stride, channels) == pixels)
    return Margin(0, False)


def _device() -> jax.Device:
    """Returns a CPU if JAX has one. Convolutions of other devices may spread NaN over more pixels."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def _spread(
    predict: Callable[[Params, Array], Outputs], params: Params, length: int, stride: int, channels: int
) -> int | None:
    """Returns how far NaN beyond one end of a row spreads, the larger of both ends; None if to the other."""
    edge = max(length // 4 // stride, 1) * stride
    strip = np.zeros((1, 1, length, channels), np.float32)
    strip[:, :, :edge] = np.nan
    farthest = edge
    for step in (1, -1):
        for values in predict(params, strip[:, :, ::step]).values():
            is_nan = np.isnan(np.asarray(values, np.float32)[0, 0, ::step])
            columns = np.flatnonzero(is_nan.any(axis=tuple(range(1, is_nan.ndim))))
            farthest = max(farthest, int(columns.max(initial=-1)) + 1)
    return farthest - edge if farthest < length else None


def _skip_group_norm(
    call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    """Makes `GroupNorm` the identity, as an interceptor of flax."""
    return args[0] if isinstance(context.module, GroupNorm) else call(*args, **kwargs)
