import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import boxes
from tests.oracles import boxes as oracle

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def some(seed, count, *, low=1.0):
    rng = np.random.default_rng(seed)
    centres, sides = rng.uniform(0, 60, (count, 2)), rng.uniform(low, 40, (count, 2))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)


def test_overlaps_agree_with_one_pair_at_a_time():
    first, second = some(0, 20, low=-10), some(1, 15)
    expected = [[oracle.iou(a, b) for b in second] for a in first]
    np.testing.assert_allclose(boxes.pairwise_iou(first, second), expected, atol=1e-5)
    assert (first[:, 2:] <= first[:, :2]).any()


def test_overlaps_by_hand():
    first = jnp.array([[0.0, 0, 10, 10]])
    second = jnp.array([[5.0, 0, 15, 10], [20, 0, 30, 10], [3, 3, 3, 9]])
    np.testing.assert_allclose(boxes.pairwise_iou(first, second), [[1 / 3, 0, 0]], atol=1e-6)


def test_two_empty_boxes_do_not_overlap():
    nothing = jnp.zeros((2, 4))
    assert not boxes.pairwise_iou(nothing, nothing).any()


def test_encoding_agrees_with_one_box_at_a_time():
    targets, anchors = some(2, 30), some(3, 30)
    expected = [oracle.encode(b, a, WEIGHTS) for b, a in zip(targets, anchors, strict=True)]
    np.testing.assert_allclose(
        boxes.encode(targets, anchors, weights=WEIGHTS), expected, rtol=1e-4, atol=1e-4
    )


def test_decoding_undoes_encoding():
    targets, anchors = some(4, 50), some(5, 50)
    deltas = boxes.encode(targets, anchors, weights=WEIGHTS)
    np.testing.assert_allclose(boxes.decode(deltas, anchors, weights=WEIGHTS), targets, atol=1e-3)


def test_decoded_sides_are_bounded():
    anchor = jnp.array([[0.0, 0, 16, 16]])
    actual = boxes.decode(jnp.array([[0, 0, 1e4, 1e4]]), anchor, weights=(1.0, 1.0, 1.0, 1.0))
    np.testing.assert_allclose(actual, [[-492, -492, 508, 508]], atol=1e-2)


def test_what_is_empty_is_encoded_to_finite_numbers_with_finite_gradients():
    nothing, anchors = jnp.zeros((3, 4)), jnp.asarray(some(6, 3))
    for pair in ((nothing, anchors), (anchors, nothing), (nothing, nothing)):
        value, slope = jax.value_and_grad(
            lambda b, a: boxes.encode(b, a, weights=WEIGHTS).sum(), argnums=(0, 1)
        )(*pair)
        assert np.isfinite(value)
        assert all(np.isfinite(part).all() for part in slope)


def test_clipping_and_sizes():
    actual = boxes.clip(jnp.array([[-5.0, 3, 12, 40], [50, 50, 60, 60]]), (30, 20))
    np.testing.assert_array_equal(actual, [[0, 3, 12, 30], [20, 30, 20, 30]])
    sides = boxes.has_min_side(jnp.array([[0.0, 0, 2, 2], [0, 0, 2, 1], [0, 0, jnp.nan, 2]]), 2)
    assert sides.tolist() == [True, False, False]


def test_boxes_of_a_label_map_with_gaps_pieces_and_too_high_ids():
    labels = np.zeros((8, 10), np.int32)
    labels[1:3, 2:5] = 1
    labels[6, 9] = 1  # a second piece
    labels[4:6, 0:2] = 3
    labels[7, 5] = 9
    actual, valid = boxes.boxes_from_labels(labels, capacity=4)
    assert valid.tolist() == [True, False, True, False]
    np.testing.assert_array_equal(actual, [[2, 1, 10, 7], [0] * 4, [0, 4, 2, 6], [0] * 4])


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchvision(seed):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    ops = pytest.importorskip("torchvision.ops", reason="the peers extra is not installed")
    from torchvision.models.detection._utils import BoxCoder

    first, second = some(seed, 100), some(seed + 100, 100)
    one, two = torch.tensor(first), torch.tensor(second)
    np.testing.assert_allclose(boxes.pairwise_iou(first, second), ops.box_iou(one, two), atol=1e-5)
    coder = BoxCoder(WEIGHTS)
    deltas = coder.encode_single(one, two)
    np.testing.assert_allclose(boxes.encode(first, second, weights=WEIGHTS), deltas, rtol=1e-4, atol=1e-3)
    wild = np.random.default_rng(seed).normal(0, 10, (100, 4)).astype(np.float32)
    np.testing.assert_allclose(
        boxes.decode(wild, second, weights=WEIGHTS),
        coder.decode_single(torch.tensor(wild), two),
        rtol=1e-5,
        atol=1e-3,
    )
