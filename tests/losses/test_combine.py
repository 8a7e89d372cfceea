import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segjax.errors import InputError
from segjax.losses.combine import LOSSES, LossOptions, mean_where, weighted_sum
from segjax.losses.pixel import cross_entropy
from segjax.losses.region import dice, lovasz_softmax
from segjax.typing import IGNORE
from tests.losses.test_pixel import scene

EVERY = dict.fromkeys(LOSSES, 1.0)
value_and_gradient = jax.jit(jax.value_and_grad(lambda logits, batch: weighted_sum(EVERY)(logits, batch)[0]))


def evaluate(weights, logits, batch, **options):
    return jax.jit(weighted_sum(weights, **options))(logits, batch)


def batch_of(count=8, shape=(8, 8)):
    logits, targets = scene(0, (count, *shape))
    blocks = np.arange(4, dtype=np.int32).reshape(1, 2, 2)
    labels = np.kron(np.tile(blocks, (count, 1, 1)), np.ones((1, 4, 4), np.int32))
    return logits, {"semantic": targets, "labels": labels}


def test_the_sum_is_of_the_terms_times_their_weights():
    logits, batch = batch_of(2)
    total, terms = evaluate({"cross_entropy": 2.0, "dice": 0.5}, logits, batch)
    np.testing.assert_allclose(total, 2 * terms["cross_entropy"] + 0.5 * terms["dice"], rtol=1e-6)
    judged = batch["semantic"] != IGNORE
    by_hand = cross_entropy(logits, batch["semantic"]).sum() / judged.sum()
    np.testing.assert_allclose(terms["cross_entropy"], by_hand, rtol=1e-6)
    np.testing.assert_allclose(terms["dice"], dice(logits, batch["semantic"]).mean(), rtol=1e-6)


def test_classes_that_are_absent_do_not_lower_the_mean():
    logits, batch = batch_of(2)
    batch["semantic"][batch["semantic"] == 2] = 0
    _, terms = evaluate({"dice": 1.0, "lovasz": 1.0}, logits, batch)
    np.testing.assert_allclose(terms["dice"], dice(logits, batch["semantic"])[:2].mean(), rtol=1e-6)
    expected = np.mean(
        [jax.jit(lovasz_softmax)(*pair)[:2] for pair in zip(logits, batch["semantic"], strict=True)]
    )
    np.testing.assert_allclose(terms["lovasz"], expected, rtol=1e-5)


def test_class_weights_reach_every_term():
    logits, batch = batch_of(2)
    only_two = [0.0, 0.0, 1.0]
    function = jax.jit(weighted_sum(EVERY, class_weights=only_two))
    _, terms = function(logits, batch)
    np.testing.assert_allclose(terms["dice"], dice(logits, batch["semantic"])[2], rtol=1e-6)
    others = np.where(batch["semantic"] == 2, IGNORE, batch["semantic"])
    _, rest = function(logits, {**batch, "semantic": others})
    assert all(term > 0 for term in terms.values())
    assert all(term == 0 for term in rest.values())


def test_options_reach_their_loss():
    logits, batch = batch_of(2)
    weights = dict.fromkeys(["cross_entropy", "focal", "boundary_cross_entropy"], 1.0)
    options = LossOptions(focal_gamma=0.0, boundary_strength=0.0)
    _, terms = evaluate(weights, logits, batch, options=options)
    np.testing.assert_allclose(terms["focal"], terms["cross_entropy"], rtol=1e-5)
    np.testing.assert_allclose(terms["boundary_cross_entropy"], terms["cross_entropy"], rtol=1e-6)
    _, terms = evaluate(weights, logits, batch)
    assert terms["focal"] < terms["cross_entropy"] < terms["boundary_cross_entropy"]
    options = LossOptions(boundary_width=1, dice_smooth=1e6)
    _, others = evaluate({**weights, "dice": 1.0}, logits, batch, options=options)
    assert others["focal"] == terms["focal"]
    # Fewer pixels are near a boundary.
    assert others["boundary_cross_entropy"] < terms["boundary_cross_entropy"]
    assert others["dice"] < 1e-3
    _, others = evaluate(weights, logits, batch, options=LossOptions(label_smoothing=0.2))
    smoothed = cross_entropy(logits, batch["semantic"], label_smoothing=0.2)
    judged = batch["semantic"] != IGNORE
    np.testing.assert_allclose(others["cross_entropy"], smoothed.sum() / judged.sum(), rtol=1e-6)


def test_a_batch_that_is_ignored_whole_costs_nothing():
    logits, batch = batch_of(8)
    batch["semantic"][:] = IGNORE
    total, gradient = value_and_gradient(logits, batch)
    assert total == 0
    assert not gradient.any()


def test_eight_devices_agree_with_one():
    logits, batch = batch_of(8)
    batch["semantic"][:3] = IGNORE  # devices see different numbers of judged pixels
    alone, gradient = value_and_gradient(logits, batch)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spread = jax.device_put((logits, batch), NamedSharding(mesh, PartitionSpec("data")))
    together, gradient_of_all = value_and_gradient(*spread)
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    np.testing.assert_allclose(gradient_of_all, gradient, rtol=1e-5, atol=1e-8)


def test_the_mean_of_nothing_is_zero():
    assert mean_where(jnp.ones(3), jnp.zeros(3, bool)) == 0
    assert mean_where(jnp.array([1.0, 2, 9]), jnp.array([True, True, False])) == 1.5


def test_a_miss_lists_the_losses():
    with pytest.raises(
        InputError, match=r"^losses='dise' is unknown: choose one of cross_entropy, .*dice, lovasz"
    ):
        weighted_sum({"dise": 1.0})
    with pytest.raises(InputError, match=r"^losses has no term: give at least one of cross_entropy"):
        weighted_sum({})
    with pytest.raises(InputError, match=r"^losses has weights of 0 only: give at least one") as raised:
        weighted_sum({"dice": 0.0, "focal": 0.0})
    assert raised.value.field == "losses"
    logits, batch = batch_of(1)
    with pytest.raises(InputError, match="2 class weights are given for 3 classes"):
        weighted_sum({"dice": 1.0}, class_weights=[1.0, 2.0])(logits, batch)
