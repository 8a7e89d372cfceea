"""Convolutions by the algorithm that is fastest on the device.

`conv_general_dilated` replaces that of `lax` in flax:

    nn.Conv(channels, (3, 3), conv_general_dilated=conv_general_dilated)

On CPU and in float32, large 3 x 3 convolutions with stride 1 use Winograd's algorithm. Wide 1 x 1
convolutions are matrix products: on CPU, XLA needs a fifth of the time for their weight gradients. Everything
else is XLA's convolution.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from segjax.ops import winograd

# With at least so many input and output channels, the matrix products save more than the transforms cost. For
# the weight gradient, fewer channels suffice, because XLA's weight gradient is slower than its convolution.
MIN_CHANNELS = 64
MIN_CHANNELS_KERNEL_GRADIENT = 16
# With fewer tiles, the time saved does not repay the compilation.
MIN_TILES = 128
# Thinner 1 x 1 convolutions take little time either way.
MIN_CHANNELS_PRODUCT = 32
_is_split: ContextVar[bool] = ContextVar("is_split", default=False)

NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
# The options under which `lax.conv_general_dilated` is a plain convolution.
PLAIN: dict[str, Any] = {
    "lhs_dilation": (1, 1),
    "rhs_dilation": (1, 1),
    "feature_group_count": 1,
    "batch_group_count": 1,
    "precision": None,
    "preferred_element_type": None,
}


@contextmanager
def split_over_devices() -> Iterator[None]:
    """Lets all convolutions that are traced within be XLA's.

    XLA splits its own convolutions over devices, but collects the blocks of Winograd's algorithm on each.
    """
    token = _is_split.set(True)
    try:
        yield
    finally:
        _is_split.reset(token)


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Array:
    """Computes `lax.conv_general_dilated`, by a faster algorithm where there is one.

    Winograd's algorithm has reverse-mode derivatives only.

    Args:
      lhs: images; Winograd's algorithm takes [B, H, W, C] float32.
      rhs: the kernel; Winograd's algorithm takes [3, 3, C, C'] float32.
      window_strides: stride along each spatial axis.
      padding: "SAME", "VALID" or the padding before and after each spatial axis.
      **options: the other arguments of `lax.conv_general_dilated`.

    Returns:
      The result of `lax.conv_general_dilated` up to rounding.
    """
    strides = tuple(window_strides)
    if lhs.ndim == 4 and {**PLAIN, **options} == {**PLAIN, "dimension_numbers": NHWC}:
        same = padding == "SAME"
        borders = None if isinstance(padding, str) else set(padding)
        if rhs.shape[:2] == (3, 3) and strides == (1, 1) and (same or borders == {(1, 1)}):
            return convolve(lhs, rhs)
        if rhs.shape[:2] == (1, 1) and (isinstance(padding, str) or borders == {(0, 0)}):
            return _product(lhs, rhs, strides)
    return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)


def _product(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    """Applies a 1 x 1 convolution [1, 1, C, C'] to [B, H, W, C]."""
    # Exported programs keep it as a convolution.
    if _is_split.get() or min(kernel.shape[2:]) < MIN_CHANNELS_PRODUCT:
        return lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=NHWC)
    return jnp.einsum("bhwc,cd->bhwd", x[:, :: strides[0], :: strides[1]], kernel[0, 0])


def convolve(x: Array, kernel: Array) -> Array:
    """Applies a 3 x 3 convolution with stride 1; result and derivatives each use the faster algorithm.

    Args:
      x: [B, H, W, C].
      kernel: [3, 3, C, C'].

    Returns:
      [B, H, W, C'].
    """
    return _convolve(x, kernel) if _pays(x, kernel, MIN_CHANNELS_KERNEL_GRADIENT) else _direct(x, kernel)


def _pays(x: Array, kernel: Array, min_channels: int) -> bool:
    """Whether Winograd's algorithm is accurate and fast for these types and shapes."""
    if _is_split.get():  # before numbers of pixels, which an exported program does not know
        return False
    batch, height, width, _ = x.shape
    tiles = batch * -(-height // winograd.TILE) * -(-width // winograd.TILE)
    is_float32 = x.dtype == kernel.dtype == jnp.float32
    is_large = min(kernel.shape[2:]) >= min_channels and tiles >= MIN_TILES
    return is_float32 and is_large


def _direct(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC)


def _on_cpu(pays: bool, fast: Callable[..., Array], default: Callable[..., Array], *args: Array) -> Array:
    """Applies `fast` where the program is lowered for CPU and it pays, otherwise `default`."""
    return lax.platform_dependent(*args, cpu=fast, default=default) if pays else default(*args)


@jax.custom_vjp
def _convolve(x: Array, kernel: Array) -> Array:
    return _on_cpu(_pays(x, kernel, MIN_CHANNELS), winograd.correlate, _direct, x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved

    def direct_input(gradient: Array, kernel: Array) -> Array:
        return jax.linear_transpose(lambda x: _direct(x, kernel), x)(gradient)[0]

    def direct_kernel(x: Array, gradient: Array) -> Array:
        return jax.linear_transpose(lambda kernel: _direct(x, kernel), kernel)(gradient)[0]

    fast_input = partial(winograd.correlate, transposed=True)
    return (
        _on_cpu(_pays(x, kernel, MIN_CHANNELS), fast_input, direct_input, gradient, kernel),
        _on_cpu(
            _pays(x, kernel, MIN_CHANNELS_KERNEL_GRADIENT),
            winograd.kernel_gradient,
            direct_kernel,
            x,
            gradient,
        ),
    )


_convolve.defvjp(_forward, _backward)
