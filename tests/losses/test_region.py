import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from segjax.losses.region import dice, lovasz_softmax, present_classes
from segjax.typing import IGNORE
from tests.losses.test_pixel import scene
from tests.oracles import losses as oracle

REGION_LOSSES = {"dice": jax.jit(dice), "lovasz": jax.jit(lovasz_softmax)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_dice_agrees_with_one_pixel_at_a_time(seed, smooth):
    logits, targets = scene(seed)
    expected = oracle.dice(logits, targets, smooth=smooth)
    np.testing.assert_allclose(dice(logits, targets, smooth=smooth), expected, rtol=1e-5)


def test_dice_is_optaxs_where_no_pixel_is_ignored():
    logits, targets = scene(1)
    targets = np.abs(targets)
    expected = optax.losses.dice_loss(
        logits[None], jax.nn.one_hot(targets, 3)[None], smooth=0.5, reduction="none"
    )
    np.testing.assert_allclose(dice(logits, targets, smooth=1.0), expected[0], rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_lovasz_agrees_with_its_definition_on_sets(seed):
    logits, targets = scene(seed)
    np.testing.assert_allclose(
        REGION_LOSSES["lovasz"](logits, targets), oracle.lovasz_softmax(logits, targets), rtol=1e-5
    )


def test_values_that_one_can_compute_by_hand():
    targets = jnp.array([[1, 1], [0, 0]])
    decided = 1e3 * jax.nn.one_hot(jnp.array([[1, 0], [0, 0]]), 2)  # one of two pixels missed
    np.testing.assert_allclose(dice(decided, targets, smooth=0.0), [1 - 4 / 5, 1 - 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(REGION_LOSSES["lovasz"](decided, targets), [1 - 2 / 3, 1 - 1 / 2], rtol=1e-6)
    even = jnp.zeros((2, 2, 2))
    np.testing.assert_allclose(dice(even, targets, smooth=0.0), [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(REGION_LOSSES["lovasz"](even, targets), [0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    logits, targets = scene(4, (3, 4))
    check_grads(lambda x: REGION_LOSSES[name](x, targets), (logits,), order=1, modes=["rev"], rtol=2e-2)


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_ignoring_pixels_is_removing_them(name):
    logits, targets = scene(5)
    logits[targets == IGNORE] = 50.0
    judged = targets != IGNORE
    assert not judged.all()
    loss = REGION_LOSSES[name]
    np.testing.assert_allclose(loss(logits, targets), loss(logits[judged], targets[judged]), rtol=1e-5)
    gradient = jax.grad(lambda x: loss(x, targets).sum())(logits)
    assert not gradient[~judged].any()


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_a_class_that_is_absent_is_zero_without_a_gradient(name):
    logits, targets = scene(6)
    targets = np.where(targets == 2, IGNORE, targets)
    value, gradient = jax.value_and_grad(lambda x: REGION_LOSSES[name](x, targets)[2])(logits)
    assert value == 0
    assert not gradient.any()
    np.testing.assert_array_equal(present_classes(targets, 3), [True, True, False])


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_an_image_that_is_ignored_whole_is_zero(name):
    logits, targets = scene(7)
    targets = np.full_like(targets, IGNORE)
    values, pull = jax.vjp(lambda x: REGION_LOSSES[name](x, targets), logits)
    np.testing.assert_array_equal(values, np.zeros(3))
    np.testing.assert_array_equal(pull(jnp.ones(3))[0], np.zeros_like(logits))


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_saturated_logits_are_finite_and_the_right_ones_cost_nothing(name):
    _, targets = scene(8)
    right = 1e4 * jax.nn.one_hot(targets, 3)
    for logits, expected in ((right, 0.0), (-right, None)):
        values, pull = jax.vjp(lambda x: REGION_LOSSES[name](x, targets), logits)
        assert jnp.isfinite(values).all()
        assert jnp.isfinite(pull(jnp.ones(3))[0]).all()
        if expected is not None:
            np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_the_order_of_pixels_and_the_names_of_classes_do_not_matter(name):
    logits, targets = scene(9)
    values = REGION_LOSSES[name](logits, targets)
    np.testing.assert_allclose(REGION_LOSSES[name](logits[::-1], targets[::-1]), values, rtol=1e-5)
    order = np.array([1, 2, 0])
    renamed = np.where(targets == IGNORE, IGNORE, np.argsort(order)[targets])
    again = REGION_LOSSES[name](logits[..., order], renamed)
    np.testing.assert_allclose(again, values[order], rtol=1e-5)
