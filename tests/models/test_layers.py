import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.layers import Interpolation, TransposedConvolution, max_pool, upsample2x
from tests.models.quick import jit


def normal(seed: int, *shape: int):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def assert_same_function(function, reference, *arguments, rtol=1e-5):
    """The same values, and the same gradients of a weighted sum of them."""
    weights = normal(99, *jax.eval_shape(reference, *arguments).shape)

    def values_and_gradients(function):
        values, gradient = jax.vjp(function, *arguments)
        return values, gradient(weights)

    actual, expected = (jit(functools.partial(values_and_gradients, f))() for f in (function, reference))
    for result, known in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(result, known, rtol=rtol, atol=1e-5)


def test_transposed_convolution_is_that_of_lax():
    def function(x, kernel, bias):
        return TransposedConvolution(6).apply({"params": {"kernel": kernel, "bias": bias}}, x)

    def reference(x, kernel, bias):
        # Of the two conventions lax's default is the one with the flipped kernel.
        y = jax.lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), "VALID")
        return y + bias.reshape(1, 1, 1, -1)

    assert_same_function(function, reference, normal(0, 2, 3, 5, 4), normal(1, 2, 2, 4, 6), normal(2, 6))


def test_transposed_convolution_puts_each_tap_in_its_place():
    kernel = jnp.arange(1.0, 5).reshape(2, 2, 1, 1)
    params = {"kernel": kernel, "bias": jnp.zeros(1)}
    x = jnp.array([[1.0, 10]]).reshape(1, 1, 2, 1)
    actual = TransposedConvolution(1).apply({"params": params}, x)[0, :, :, 0]
    np.testing.assert_array_equal(actual, [[1, 2, 10, 20], [3, 4, 30, 40]])


def test_transposed_convolution_keeps_the_variance():
    x = normal(0, 1, 16, 16, 64)
    variables = jit(TransposedConvolution(32).init)(jax.random.key(0), x)
    assert 0.8 < TransposedConvolution(32).apply(variables, x).std() < 1.2


@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (1, 7, 9, 2), (1, 1, 4, 2)])
@pytest.mark.parametrize(("window", "padding"), [(2, "SAME"), (3, ((1, 1), (1, 1)))])
def test_max_pool_is_that_of_flax(shape, window, padding):
    def reference(x):
        return nn.max_pool(x, (window, window), strides=(2, 2), padding=padding)

    # All below zero, so that a padding of zeros would be seen.
    x = normal(3, *shape) - 10
    assert_same_function(lambda x: max_pool(x, window=window), reference, x)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (1, 1, 2, 1)])
def test_double_is_the_resize_of_jax(method, shape):
    size = (shape[0], 2 * shape[1], 2 * shape[2], shape[3])
    assert_same_function(
        lambda x: upsample2x(x, method=method), lambda x: jax.image.resize(x, size, method), normal(4, *shape)
    )


def test_interpolation_may_convolve_before_it_doubles():
    x = normal(0, 1, 4, 4, 6)
    layer = Interpolation(3)
    variables = jit(layer.init)(jax.random.key(0), x)
    kernel = variables["params"]["projection"]["kernel"][0, 0]
    after = jnp.einsum("bhwc,co->bhwo", upsample2x(x, method="bilinear"), kernel)
    np.testing.assert_allclose(layer.apply(variables, x), after, rtol=1e-4, atol=1e-5)
