import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import winograd
from tests.oracles import convolution as oracle

correlate = jax.jit(winograd.correlate, static_argnames="transposed")
kernel_gradient = jax.jit(winograd.kernel_gradient)


def example(batch, height, width, channels, out_channels):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, channels, out_channels)) / np.sqrt(9 * channels)
    x, gradient = (rng.normal(size=(batch, height, width, c)) for c in (channels, out_channels))
    return [value.astype(np.float32) for value in (x, kernel, gradient)]


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1, 1),
        (3, 1, 1, 5, 2),  # three images in one block
        (1, 5, 7, 3, 4),
        (1, 33, 65, 2, 65),  # two blocks of a width that is no multiple of the tile
        (5, 33, 9, 17, 16),  # images that do not fill the last block
        (2, 70, 131, 3, 2),  # blocks along every axis
        (2, 16, 16, 64, 64),
        (1, 8, 8, 512, 512),
    ],
)
def test_agrees_with_float64(shape):
    x, kernel, gradient = example(*shape)
    assert relative_error(correlate(x, kernel), oracle.convolve(x, kernel)) < 3e-6
    expected = oracle.input_gradient(kernel, gradient)
    assert relative_error(correlate(gradient, kernel, transposed=True), expected) < 4e-6
    assert relative_error(kernel_gradient(x, gradient), oracle.kernel_gradient(x, gradient)) < 4e-6


def test_error_grows_slowly_with_the_channels():
    # XLA's own convolution has 3e-7, bfloat16 3e-3.
    x, kernel, _ = example(1, 16, 16, 64, 64)
    assert relative_error(correlate(x, kernel), oracle.convolve(x, kernel)) < 1.5e-6


def test_by_hand():
    x = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1], kernel[1, 2], kernel[0, 1] = 1, 10, 100  # itself, its right and its upper neighbour
    expected = [[21, 32, 3], [154, 265, 306], [487, 598, 609]]
    np.testing.assert_allclose(correlate(x, kernel)[0, :, :, 0], expected, rtol=1e-5)


def test_blocks_cover_the_images():
    for size in [(1, 1, 1), (7, 14, 14), (2, 256, 256), (3, 65, 4)]:
        blocks = winograd.divide(*size)
        assert all(full >= n for full, n in zip(blocks.padded, size, strict=True))
        assert np.prod(blocks.shape) <= winograd.SIDE**2


def test_equal_channels_share_the_shape_of_their_blocks():
    """XLA compiles the kernels of such layers once."""
    assert winograd.divide(2, 256, 256).shape == winograd.divide(4, 128, 64).shape


def test_kernels_can_be_batched_by_vmap():
    x, kernel, _ = example(3, 6, 9, 4, 5)
    kernels = np.stack([kernel, 2 * kernel])
    actual = jax.jit(jax.vmap(winograd.correlate, (None, 0)))(jnp.asarray(x), jnp.asarray(kernels))
    np.testing.assert_allclose(actual[1], oracle.convolve(x, kernels[1]), rtol=1e-4, atol=1e-4)
