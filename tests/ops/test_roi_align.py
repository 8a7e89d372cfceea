from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import roi_align as module
from segjax.ops.roi_align import pyramid_level, pyramid_roi_align
from tests.oracles import roi as oracle

roi_align = jax.jit(module.roi_align, static_argnames=("bins", "scale", "sampling_ratio", "aligned"))
HEIGHT, WIDTH = 11, 14


def feature_map(seed=0, channels=3):
    return np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, channels)).astype(np.float32)


def some(seed=0, count=12):
    """Boxes of an image of 44 x 56, also across its borders, outside, empty and inverted."""
    rng = np.random.default_rng(seed)
    centres, sides = rng.uniform(-10, 60, (count, 2)), rng.uniform(1, 40, (count, 2))
    actual = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    actual[0] = [20, 20, 20, 20]
    actual[1] = [30, 30, 10, 20]
    actual[2] = [200, 200, 240, 240]
    return actual.astype(np.float32)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
def test_agrees_with_one_sample_at_a_time(sampling_ratio, aligned):
    options = {"bins": 3, "scale": 0.25, "sampling_ratio": sampling_ratio, "aligned": aligned}
    features, boxes = feature_map(), some()
    if aligned:  # an inverted box has no samples to speak of
        boxes[1] = boxes[0]
    expected = [oracle.roi_align(features, box, **options) for box in boxes]
    np.testing.assert_allclose(roi_align(features, boxes, **options), expected, atol=1e-4)


def test_of_a_ramp_gives_the_centres_of_the_bins():
    # features[y, x] = x: a bin's mean is where its centre lies, read half a pixel off unless aligned.
    ramp = np.broadcast_to(np.arange(16.0)[None, :, None], (16, 16, 1))
    box = jnp.array([[4.0, 4, 12, 12]])
    read = roi_align(ramp, box, bins=4, aligned=False)
    np.testing.assert_allclose(read[0, 0, :, 0], [5, 7, 9, 11], atol=1e-5)
    read = roi_align(ramp, box, bins=4, aligned=True)
    np.testing.assert_allclose(read[0, 0, :, 0], [4.5, 6.5, 8.5, 10.5], atol=1e-5)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_gradient_agrees_with_differences(sampling_ratio):
    features, boxes = feature_map(channels=1), some()[3:6]
    pool = partial(roi_align, boxes=boxes, bins=2, scale=0.25, sampling_ratio=sampling_ratio, aligned=True)
    weights = np.random.default_rng(1).normal(size=(3, 2, 2, 1)).astype(np.float32)
    slope = jax.grad(lambda f: jnp.sum(pool(f) * weights))(features)
    # Linear in the features: the difference of one is exact.
    for y, x in ((0, 0), (3, 5), (10, 13), (7, 2)):
        step = np.zeros_like(features)
        step[y, x] = 1
        np.testing.assert_allclose(slope[y, x, 0], jnp.sum(pool(step) * weights), atol=1e-5)
    assert np.abs(slope).max() > 0.1


def test_products_and_scattering_give_the_same_gradient():
    maps = [feature_map(0), feature_map(1)[:5, :7]]
    boxes = jnp.asarray(some(count=20))
    level = jnp.arange(20, dtype=jnp.int32) % 2
    shapes = ((HEIGHT, WIDTH), (5, 7))
    start, length = module.roi_to_feature_coords(boxes, jnp.array([0.25, 0.125])[level], False)
    rows = module._bilinear_taps(start[:, 1], length[:, 1], jnp.array([11, 5])[level], 3, 2)
    columns = module._bilinear_taps(start[:, 0], length[:, 0], jnp.array([14, 7])[level], 3, 2)
    table = jnp.concatenate([m.reshape(-1, 3) for m in maps])
    gradient = jax.random.normal(jax.random.key(0), (20, 3, 3, 3))
    _, scattered = jax.vjp(lambda t: module._gather(shapes, t, level, rows, columns), table)
    products = module._gather_transpose(shapes, gradient, level, rows, columns)
    np.testing.assert_allclose(products, scattered(gradient)[0], atol=1e-4)


def test_boxes_get_no_gradient():
    slope = jax.grad(lambda b: roi_align(feature_map(), b, bins=2, scale=0.25).sum())(some())
    assert not slope.any()


def test_levels_by_hand():
    # Of 224 pixels and a little less, of half as many, and far too large and small.
    sides = np.array([224, 223, 112, 111, 5000, 1, 0], np.float32)
    boxes = np.stack([sides * 0, sides * 0, sides, sides], axis=1)
    actual = pyramid_level(boxes, scales=(1 / 4, 1 / 8, 1 / 16, 1 / 32))
    assert actual.tolist() == [2, 1, 1, 0, 3, 0, 0]


def test_a_pyramid_takes_each_box_from_its_level():
    maps = [feature_map(0), feature_map(1)[:6, :7]]
    boxes = np.array([[2, 2, 20, 14], [1, 3, 42, 40], [4, 4, 44, 30]], np.float32)
    options = {"bins": 2, "sampling_ratio": 2, "aligned": False}
    actual = pyramid_roi_align(maps, boxes, scales=(0.25, 0.125), canonical_size=64.0, **options)
    fine, coarse = (roi_align(m, boxes, scale=s, **options) for m, s in zip(maps, (0.25, 0.125), strict=True))
    np.testing.assert_allclose(actual[0], fine[0], atol=1e-6)
    np.testing.assert_allclose(actual[1:], coarse[1:], atol=1e-6)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators_without_a_scatter(platform):
    def loss(features, boxes):
        return module.roi_align(features, boxes, bins=7, scale=0.25).sum()

    shapes = jax.ShapeDtypeStruct((16, 16, 4), jnp.float32), jax.ShapeDtypeStruct((64, 4), jnp.float32)
    text = jax.jit(jax.grad(loss)).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    assert "dot_general" in text
    assert "scatter" not in text


@pytest.mark.peers
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_torchvision(seed, sampling_ratio, aligned):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    ops = pytest.importorskip("torchvision.ops", reason="the peers extra is not installed")
    rng = np.random.default_rng(seed)
    features, boxes = feature_map(seed, channels=5), some(seed, 60)
    weights = rng.normal(size=(60, 7, 7, 5)).astype(np.float32)
    inputs = torch.tensor(features).permute(2, 0, 1)[None].requires_grad_()
    expected = ops.roi_align(inputs, [torch.tensor(boxes)], 7, 0.25, sampling_ratio or -1, aligned)
    (expected * torch.tensor(weights).permute(0, 3, 1, 2)).sum().backward()
    pool = partial(roi_align, boxes=boxes, bins=7, scale=0.25, sampling_ratio=sampling_ratio, aligned=aligned)
    slope = jax.grad(lambda f: jnp.sum(pool(f) * weights))(features)
    np.testing.assert_allclose(pool(features), expected.detach().permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(slope, inputs.grad[0].permute(1, 2, 0), atol=1e-3)


@pytest.mark.peers
def test_a_pyramid_agrees_with_torchvision():
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    ops = pytest.importorskip("torchvision.ops", reason="the peers extra is not installed")
    rng = np.random.default_rng(0)
    maps = {str(n): rng.normal(size=(256 >> n, 320 >> n, 4)).astype(np.float32) for n in (2, 3, 4, 5)}
    sides = np.exp(rng.uniform(0, 6.5, (200, 2)))
    centres = rng.uniform(0, 256, (200, 2))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
    pool = ops.MultiScaleRoIAlign(["2", "3", "4", "5"], 7, 2)
    inputs = {name: torch.tensor(m).permute(2, 0, 1)[None] for name, m in maps.items()}
    expected = pool(inputs, [torch.tensor(boxes)], [(256, 320)]).permute(0, 2, 3, 1)
    actual = pyramid_roi_align(list(maps.values()), boxes, bins=7, scales=[2.0**-n for n in (2, 3, 4, 5)])
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.peers
def test_boxes_at_the_boundary_of_two_levels_go_where_torchvision_has_them():
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    poolers = pytest.importorskip("torchvision.ops.poolers", reason="the peers extra is not installed")
    # A few roundings off 112, 224 and 448, and clearly off.
    sides = np.float32([112, 224, 448])[:, None] * (1 + np.float32(2**-23) * np.array([-40, -5, 0, 5, 40]))
    sides = sides.astype(np.float32).ravel()
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    expected = poolers.LevelMapper(2, 5)([torch.tensor(boxes)])
    actual = pyramid_level(boxes, scales=(1 / 4, 1 / 8, 1 / 16, 1 / 32))
    np.testing.assert_array_equal(actual, expected.numpy())
    assert len(set(actual.tolist())) == 4
