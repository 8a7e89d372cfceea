import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segjax.models.layers import Convolutions
from segjax.models.norms import (
    FrozenBatchNorm,
    GroupNorm,
    LayerNorm,
    WeightStandardization,
    divisor,
    frozen,
    standardise,
)
from tests.models.quick import jit


def normal(seed: int, *shape: int):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(
    ("channels", "groups"), [(3, 1), (7, 1), (8, 2), (12, 3), (40, 10), (64, 16), (512, 32)]
)
def test_group_norm_is_that_of_flax_with_groups_that_fit(channels, groups):
    x = normal(5, 2, 4, 3, channels) * 3 + 1
    parameters = {"scale": normal(6, channels), "bias": normal(7, channels)}
    reference = nn.GroupNorm(num_groups=groups, epsilon=1e-5, use_fast_variance=False)
    np.testing.assert_allclose(
        jit(GroupNorm().apply)({"params": parameters}, x),
        jit(reference.apply)({"params": parameters}, x),
        rtol=1e-4,
        atol=1e-4,
    )


def test_group_norm_keeps_the_contrast_of_raw_microscopy():
    x = normal(8, 1, 32, 32, 4) + 10_000
    variables = {"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}
    assert abs(GroupNorm().apply(variables, x).std() - 1) < 0.01


def test_layer_norm_agrees_with_one_pixel_at_a_time():
    x = normal(5, 2, 3, 4, 6) * 3 + 1
    scale, bias = normal(6, 6), normal(7, 6)
    expected = np.zeros(x.shape)
    for at in np.ndindex(x.shape[:3]):
        pixel = np.asarray(x[at], np.float64)
        expected[at] = (pixel - pixel.mean()) / np.sqrt(pixel.var() + 1e-3) * scale + bias
    variables = {"params": {"norm": {"scale": scale, "bias": bias}}}
    np.testing.assert_allclose(LayerNorm().apply(variables, x), expected, rtol=1e-4, atol=1e-5)


def test_layer_norm_keeps_the_contrast_of_raw_microscopy():
    x = normal(8, 1, 8, 8, 4) + 10_000
    variables = LayerNorm().init(jax.random.key(0), x)
    assert abs(LayerNorm().apply(variables, x).std() - 1) < 0.01


def test_layer_norm_does_not_depend_on_the_window_and_group_norm_does():
    x = normal(9, 1, 12, 12, 8) * jnp.linspace(1, 9, 12).reshape(1, 12, 1, 1)
    for layer, is_same in ((LayerNorm(), True), (GroupNorm(), False)):
        variables = layer.init(jax.random.key(0), x)
        window = layer.apply(variables, x[:, 2:7, 3:9])
        np.testing.assert_array_equal(
            np.allclose(window, layer.apply(variables, x)[:, 2:7, 3:9], atol=1e-5), is_same
        )


def test_a_pixel_without_contrast_becomes_the_bias():
    x = jnp.full((1, 2, 2, 4), 7.0)
    variables = {"params": {"norm": {"scale": jnp.ones(4), "bias": jnp.arange(4.0)}}}
    np.testing.assert_allclose(LayerNorm().apply(variables, x)[0, 1, 1], [0, 1, 2, 3], atol=1e-5)


def test_standardised_weights_agree_with_one_channel_at_a_time():
    kernel = normal(3, 3, 3, 4, 5) * 7 + 2
    gain = np.sqrt(2 / (1 - 1 / np.pi))
    expected = np.zeros(kernel.shape)
    for channel in range(5):
        weights = np.asarray(kernel[..., channel], np.float64)
        expected[..., channel] = gain * (weights - weights.mean()) / (weights.std() * np.sqrt(3 * 3 * 4))
    np.testing.assert_allclose(standardise(kernel), expected, rtol=1e-5, atol=1e-6)
    check_grads(standardise, (kernel,), order=1, modes=["rev"], rtol=1e-2, atol=1e-3)
    # Without contrast, there is nothing to standardise.
    same = jnp.ones((3, 3, 4, 5))
    assert (standardise(same) == 0).all()
    assert np.isfinite(jax.grad(lambda kernel: standardise(kernel).sum())(same)).all()


@pytest.mark.parametrize("factory", [WeightStandardization, functools.partial(WeightStandardization)])
def test_standardised_convolutions_preserve_the_variance(factory):
    x = nn.relu(normal(1, 1, 64, 64, 16))
    stack = Convolutions(4, 16, factory)
    variables = stack.init(jax.random.key(0), x)
    # However large the weights are.
    variables = jax.tree.map(lambda leaf: leaf * 9 if leaf.ndim == 4 else leaf, variables)
    before, after = (float((x[:, 8:-8, 8:-8] ** 2).mean()) for x in (x, stack.apply(variables, x)))
    assert 0.5 < after / before < 2


def test_weight_standardization_scales_and_shifts():
    x = jnp.arange(6.0).reshape(1, 1, 3, 2)
    variables = {"params": {"scale": jnp.array([2.0, 0]), "bias": jnp.array([1.0, 7])}}
    np.testing.assert_allclose(
        WeightStandardization().apply(variables, x)[0, 0], [[1, 7], [5, 7], [9, 7]], rtol=1e-6
    )
    zero = WeightStandardization(zero_init=True)
    assert not zero.apply(zero.init(jax.random.key(0), x), x).any()


def test_divisor_never_fails():
    assert [divisor(12, limit) for limit in (0, 1, 5, 12, 32)] == [1, 1, 4, 12, 12]
    assert divisor(7, 6) == 1


def test_frozen_batch_norm_by_hand():
    vectors = {"scale": [2.0, 1], "bias": [0.5, 0], "mean": [1.0, -1], "var": [4.0, 1]}
    variables = {"params": {name: jnp.array(value) for name, value in vectors.items()}}
    x = jnp.array([[5.0, 1], [1, -1]]).reshape(1, 2, 1, 2)
    actual = FrozenBatchNorm(epsilon=0.0).apply(variables, x)
    np.testing.assert_allclose(actual[0, :, 0], [[4.5, 2], [0.5, 0]], rtol=1e-6)
    assert FrozenBatchNorm(epsilon=12.0).apply(variables, x)[0, 0, 0, 0] == 2.5  # 2 * 4 / sqrt(16) + 0.5


def test_no_gradient_reaches_a_frozen_batch_norm():
    x = normal(0, 1, 2, 2, 3)
    variables = FrozenBatchNorm().init(jax.random.key(0), x)
    gradients = jax.grad(lambda v, x: (FrozenBatchNorm().apply(v, x) ** 2).sum(), (0, 1))(variables, x)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients[0]))
    assert (gradients[1] != 0).all()


def test_frozen_marks_frozen_batch_norms_and_nothing_else():
    x = jnp.zeros((1, 2, 2, 4))
    params = {
        "conv": {"kernel": x, "bias": x},
        "deep": {"norm": FrozenBatchNorm().init(jax.random.key(0), x)["params"]},
        "group": GroupNorm().init(jax.random.key(0), x)["params"],
        "layer": LayerNorm().init(jax.random.key(0), x)["params"],
        "weight": WeightStandardization().init(jax.random.key(0), x)["params"],
    }
    assert frozen(params) == {
        "conv": {"kernel": False, "bias": False},
        "deep": {"norm": {"scale": True, "bias": True, "mean": True, "var": True}},
        "group": {"scale": False, "bias": False},
        "layer": {"norm": {"scale": False, "bias": False}},
        "weight": {"scale": False, "bias": False},
    }


@pytest.mark.parametrize("layer", [GroupNorm, LayerNorm, WeightStandardization, FrozenBatchNorm])
def test_norms_return_their_dtype(layer):
    x = normal(0, 1, 4, 4, 8).astype(jnp.bfloat16)
    variables = layer(dtype=jnp.bfloat16).init(jax.random.key(0), x)
    assert layer(dtype=jnp.bfloat16).apply(variables, x).dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
