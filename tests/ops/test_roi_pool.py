import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import roi_pool as module
from tests.ops.test_roi_align import feature_map, some
from tests.oracles import roi as oracle

roi_pool = jax.jit(module.roi_pool, static_argnames=("bins", "scale"))


def test_agrees_with_one_bin_at_a_time():
    features, boxes = feature_map(), some()
    expected = [oracle.roi_pool(features, box, bins=3, scale=0.25) for box in boxes]
    np.testing.assert_allclose(roi_pool(features, boxes, bins=3, scale=0.25), expected, atol=1e-6)


def test_by_hand_with_the_gradient_at_the_first_maximum():
    features = jnp.array([[1.0, 5, 2], [5, 0, 3], [4, 4, 4]])[..., None]
    # All three rows and columns; bins of 1.5 pixels share the middle ones.
    box = jnp.array([[0.0, 0, 2, 2]])
    np.testing.assert_array_equal(roi_pool(features, box, bins=2)[0, ..., 0], [[5, 5], [5, 4]])
    slope = jax.grad(lambda f: roi_pool(f, box, bins=2).sum())(features)[..., 0]
    np.testing.assert_array_equal(slope, [[0, 2, 0], [1, 0, 0], [0, 1, 0]])


def test_comparing_and_scattering_give_the_same_gradient():
    rng = np.random.default_rng(0)
    at = rng.integers(-1, 12, (40, 3)).astype(np.int32)
    gradient = rng.normal(size=(40, 3)).astype(np.float32)
    expected = np.zeros((12, 3))
    for row, values in zip(at, gradient, strict=True):
        for channel, pixel in enumerate(row):
            expected[pixel, channel] += values[channel] * (pixel >= 0)
    np.testing.assert_allclose(module._scatter_add(at, gradient, 12), expected, atol=1e-5)
    np.testing.assert_allclose(module._compare_and_sum(at, gradient, 12), expected, atol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchvision(seed):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    ops = pytest.importorskip("torchvision.ops", reason="the peers extra is not installed")
    features, boxes = feature_map(seed, channels=5), some(seed, 60)
    weights = np.random.default_rng(seed).normal(size=(60, 7, 7, 5)).astype(np.float32)
    inputs = torch.tensor(features).permute(2, 0, 1)[None].requires_grad_()
    expected = ops.roi_pool(inputs, [torch.tensor(boxes)], 7, 0.25)
    (expected * torch.tensor(weights).permute(0, 3, 1, 2)).sum().backward()
    slope = jax.grad(lambda f: jnp.sum(roi_pool(f, boxes, bins=7, scale=0.25) * weights))(features)
    np.testing.assert_array_equal(
        roi_pool(features, boxes, bins=7, scale=0.25), expected.detach().permute(0, 2, 3, 1)
    )
    np.testing.assert_allclose(slope, inputs.grad[0].permute(1, 2, 0), atol=1e-4)
