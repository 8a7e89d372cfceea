from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segjax.ops import convolution
from tests.oracles import convolution as oracle

convolve = convolution.conv_general_dilated
PLAIN = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": convolution.NHWC}


def example(batch=1, height=66, width=63, channels=64, out_channels=64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, height, width, channels))
    kernel = rng.normal(size=(3, 3, channels, out_channels)) / np.sqrt(9 * channels)
    return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


def num_loops(function, *args, platform="cpu"):
    """Loops and convolutions in the program: Winograd's blocks are a loop."""
    text = jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    return text.count("stablehlo.while"), text.count("stablehlo.convolution")


def loss(x, kernel):
    return (convolve(x, kernel, **PLAIN) ** 2).sum()


def test_agrees_with_float64():
    x, kernel = example()
    expected = oracle.convolve(np.asarray(x), np.asarray(kernel))
    actual = jax.jit(partial(convolve, **PLAIN))(x, kernel)
    np.testing.assert_allclose(actual, expected, atol=3e-5)


@pytest.mark.parametrize("channels", [(64, 64), (64, 32)])
def test_gradients_agree_with_float64(channels):
    """With 32 channels Winograd's algorithm computes only the gradient of the kernel."""
    x, kernel = (np.asarray(v) for v in example(1, 66, 63, *channels))
    expected = 2 * oracle.convolve(x, kernel)
    gradients = jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
    for actual, value in zip(
        gradients,
        (oracle.input_gradient(kernel, expected), oracle.kernel_gradient(x, expected)),
        strict=True,
    ):
        assert np.linalg.norm(actual - value) < 4e-6 * np.linalg.norm(value)


def test_gradients_agree_with_finite_differences(monkeypatch):
    for name in ("MIN_CHANNELS", "MIN_CHANNELS_KERNEL_GRADIENT", "MIN_TILES"):
        monkeypatch.setattr(convolution, name, 1)
    function = jax.jit(convolution.convolve)
    check_grads(function, example(2, 5, 7, 2, 3), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


def test_each_role_chooses_by_its_channels():
    assert num_loops(jax.grad(loss, (0, 1)), *example()) == (3, 0)
    assert num_loops(jax.grad(loss, (0, 1)), *example(channels=32)) == (1, 2)
    assert num_loops(jax.grad(loss, (0, 1)), *example(channels=3)) == (0, 3)
    assert num_loops(jax.grad(loss, (0, 1)), *example(height=16, width=16)) == (0, 3)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_use_xlas_convolution(platform):
    loops, convolutions = num_loops(jax.grad(loss, (0, 1)), *example(), platform=platform)
    assert (loops, convolutions) == (0, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (2, 2)},
        {"padding": "VALID"},
        {"padding": [(1, 0), (1, 1)]},
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 1), "padding": [(1, 1), (1, 1)]},
        {"precision": jax.lax.Precision.HIGHEST},
    ],
)
def test_other_options_are_xlas_convolution(options):
    x, kernel = example()
    expected = jax.lax.conv_general_dilated(x, kernel, **(PLAIN | options))
    np.testing.assert_array_equal(convolve(x, kernel, **(PLAIN | options)), expected)
    assert num_loops(lambda x, kernel: convolve(x, kernel, **(PLAIN | options)), x, kernel) == (0, 1)


def test_half_precision_and_other_kernels_are_xlas_convolution():
    x, kernel = example()
    half = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    for args in (half, (x, jnp.pad(kernel, ((1, 1), (1, 1), (0, 0), (0, 0))))):
        assert num_loops(lambda x, kernel: convolve(x, kernel, **PLAIN), *args) == (0, 1)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", [(0, 0), (0, 0)]])
def test_a_convolution_of_single_pixels_is_a_product(stride, padding):
    x, kernel = example(2, 7, 6, 33, 32)
    options = PLAIN | {"window_strides": (stride, stride), "padding": padding}

    def loss(convolve, x, kernel):
        return (convolve(x, kernel, **options) ** 3).sum()

    arguments = x, kernel[1:2, 1:2]
    assert num_loops(jax.grad(partial(loss, convolve), (0, 1)), *arguments) == (0, 0)
    for actual, expected in zip(
        jax.jit(jax.value_and_grad(partial(loss, convolve), (0, 1)))(*arguments),
        jax.value_and_grad(partial(loss, jax.lax.conv_general_dilated), (0, 1))(*arguments),
        strict=True,
    ):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), actual, expected)


def test_with_a_border_or_few_channels_it_is_xlas_convolution():
    for options, channels in ((PLAIN, 31), (PLAIN | {"padding": [(1, 1), (1, 1)]}, 32)):
        x, kernel = example(1, 7, 6, 32, channels)
        assert num_loops(partial(convolve, **options), x, kernel[:1, :1]) == (0, 1)


@pytest.mark.parametrize("padding", ["SAME", 1])
def test_flax_accepts_it_and_its_parameters_stay(padding):
    x, _ = example()
    fast = nn.Conv(64, (3, 3), padding=padding, conv_general_dilated=convolve)
    plain = nn.Conv(64, (3, 3), padding=padding)
    params = plain.init(jax.random.key(0), x)
    shapes = jax.eval_shape(fast.init, jax.random.key(0), x)
    assert jax.tree.structure(params) == jax.tree.structure(shapes)
    assert num_loops(fast.apply, params, x) == (1, 0)
    np.testing.assert_allclose(jax.jit(fast.apply)(params, x), plain.apply(params, x), atol=3e-5)
