import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segjax.losses import pixel
from segjax.typing import IGNORE
from tests.oracles import losses as oracle

WEIGHTS = np.array([0.5, 1.0, 3.0], np.float32)


def scene(seed=0, shape=(5, 6), num_classes=3):
    """Logits and targets, some of them ignored."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (*shape, num_classes)).astype(np.float32)
    targets = rng.integers(IGNORE, num_classes, shape).astype(np.int32)
    return logits, targets


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_cross_entropy_agrees_with_one_pixel_at_a_time(class_weights, label_smoothing):
    logits, targets = scene()
    options = {"class_weights": class_weights, "label_smoothing": label_smoothing}
    values = pixel.cross_entropy(logits, targets, **options)
    options["class_weights"] = np.ones(3) if class_weights is None else class_weights
    np.testing.assert_allclose(values, oracle.cross_entropy(logits, targets, **options), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_focal_agrees_with_one_pixel_at_a_time(class_weights, gamma):
    logits, targets = scene(1)
    values = pixel.focal(logits, targets, gamma=gamma, class_weights=class_weights)
    weights = np.ones(3) if class_weights is None else class_weights
    expected = oracle.focal(logits, targets, gamma=gamma, class_weights=weights)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_values_that_one_can_compute_by_hand():
    even, sure = jnp.zeros((1, 2)), jnp.log(jnp.array([[0.9, 0.1]]))
    target = jnp.array([0])
    np.testing.assert_allclose(pixel.cross_entropy(even, target), [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(pixel.focal(even, target, gamma=2.0), [0.25 * np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(pixel.focal(sure, target, gamma=1.0), [-0.1 * np.log(0.9)], rtol=1e-5)
    smoothed = pixel.cross_entropy(sure, target, label_smoothing=0.5)
    np.testing.assert_allclose(smoothed, [-0.75 * np.log(0.9) - 0.25 * np.log(0.1)], rtol=1e-6)
    on, off = pixel.boundary_weighted_cross_entropy(
        jnp.zeros((2, 2)), jnp.array([0, 1]), jnp.array([True, False]), strength=4.0
    )
    np.testing.assert_allclose([on, off], [5 * np.log(2), np.log(2)], rtol=1e-6)
    values = pixel.smooth_l1(jnp.array([0.5, 1.0, -3.0]), jnp.zeros(3), beta=1.0)
    np.testing.assert_allclose(values, [0.125, 0.5, 2.5], rtol=1e-6)
    values = pixel.smooth_l1(jnp.array([0.05, 1.0]), jnp.zeros(2), beta=0.1)
    np.testing.assert_allclose(values, [0.0125, 0.95], rtol=1e-6)


PIXEL_LOSSES = {
    "cross_entropy": jax.jit(pixel.cross_entropy),
    "weighted": jax.jit(lambda x, t: pixel.cross_entropy(x, t, class_weights=WEIGHTS, label_smoothing=0.1)),
    "focal": jax.jit(pixel.focal),
    "focal_half": jax.jit(lambda x, t: pixel.focal(x, t, gamma=0.5, class_weights=WEIGHTS)),
    "boundary": jax.jit(lambda x, t: pixel.boundary_weighted_cross_entropy(x, t, t == 1)),
}


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    logits, targets = scene(2, (2, 3))
    check_grads(lambda x: PIXEL_LOSSES[name](x, targets), (logits,), order=1, modes=["rev"], rtol=2e-2)


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_ignored_pixels_are_zero_and_have_no_gradient(name):
    logits, targets = scene(3)
    logits[targets == IGNORE] = 1e4  # whatever stands there
    values = PIXEL_LOSSES[name](logits, targets)
    gradient = jax.grad(lambda x: PIXEL_LOSSES[name](x, targets).sum())(logits)
    ignored = targets == IGNORE
    assert ignored.any()
    assert not values[ignored].any()
    assert not gradient[ignored].any()
    assert (np.abs(gradient[~ignored]).sum(-1) > 0).all()


@pytest.mark.parametrize("name", PIXEL_LOSSES)
@pytest.mark.parametrize("size", [60.0, 1e4])
def test_saturated_logits_are_finite_right_or_wrong(name, size):
    targets = jnp.array([0, 1, 2, IGNORE])
    logits = size * jax.nn.one_hot(jnp.array([0, 0, 2, 1]), 3)
    value, gradient = jax.value_and_grad(lambda x: PIXEL_LOSSES[name](x, targets).sum())(logits)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()
    assert value >= 0.5 * size  # the one that is wrong


def test_logits_of_sixteen_bits_are_judged_in_float32():
    logits, targets = scene(4)
    rounded = jnp.asarray(logits, jnp.bfloat16)
    for loss in PIXEL_LOSSES.values():
        values = loss(rounded, targets)
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, loss(rounded.astype(jnp.float32), targets), rtol=1e-6)


def test_renaming_the_classes_changes_nothing():
    logits, targets = scene(5)
    order = np.array([2, 0, 1])  # new class k was class order[k]
    renamed = np.where(targets == IGNORE, IGNORE, np.argsort(order)[targets])
    options = {"label_smoothing": 0.1}
    values = pixel.cross_entropy(logits, targets, class_weights=WEIGHTS, **options)
    again = pixel.cross_entropy(logits[..., order], renamed, class_weights=WEIGHTS[order], **options)
    np.testing.assert_allclose(values, again, rtol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_agrees_with_torch(label_smoothing):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    logits, targets = scene(6)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits).reshape(-1, 3),
        torch.tensor(targets).reshape(-1).long(),
        weight=torch.tensor(WEIGHTS),
        ignore_index=IGNORE,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    values = pixel.cross_entropy(logits, targets, class_weights=WEIGHTS, label_smoothing=label_smoothing)
    np.testing.assert_allclose(values.reshape(-1), expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_smooth_l1_agrees_with_torch(beta):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    logits, _ = scene(7)
    predictions, targets = logits[..., 0], logits[..., 1]
    expected = torch.nn.functional.smooth_l1_loss(
        torch.tensor(predictions), torch.tensor(targets), reduction="none", beta=beta
    )
    np.testing.assert_allclose(pixel.smooth_l1(predictions, targets, beta=beta), expected, rtol=1e-5)
