import jax
import numpy as np
import pytest

from segjax.data.colouring import COLOURS, RADIUS
from segjax.representations import REPRESENTATIONS, DecoderConfig
from segjax.representations.colours import EPSILON, NEIGHBOURS, alike
from tests.data.test_targets import blocks
from tests.oracles import colours as oracle
from tests.oracles import losses as loss_oracle
from tests.representations.scenes import batch_of, iou, touching

pytestmark = pytest.mark.usefixtures("quick_to_compile")
COLOURED = REPRESENTATIONS["colours"]
loss = jax.jit(COLOURED.loss)
alike = jax.jit(alike)


def logits_of(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 2, (*shape, COLOURS)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_alike_agrees_with_one_pair_at_a_time(seed):
    labels = blocks(seed)
    expected = oracle.alike(logits_of(labels.shape), labels, radius=RADIUS, epsilon=EPSILON)
    np.testing.assert_allclose(alike(logits_of(labels.shape), labels), expected, rtol=1e-4, atol=1e-6)
    assert expected.any()


def test_the_loss_is_cross_entropy_inside_instances_plus_alike():
    labels = blocks(2)
    batch, logits = batch_of(labels), logits_of((1, *labels.shape))
    own = loss_oracle.cross_entropy(
        logits[0], batch["colours"][0] - 1, class_weights=np.ones(COLOURS), label_smoothing=0
    )
    pairs = oracle.alike(logits[0], labels, radius=RADIUS, epsilon=EPSILON)
    np.testing.assert_allclose(loss(logits, batch)[0], own + NEIGHBOURS * pairs, rtol=1e-4, atol=1e-6)


def test_alike_by_hand():
    labels = np.zeros((1, 3 * RADIUS), np.int32)
    labels[:, :RADIUS], labels[:, RADIUS : 2 * RADIUS] = 1, 2
    even = np.zeros((*labels.shape, COLOURS), np.float32)
    expected = np.where(labels > 0, -np.log(1 - 1 / COLOURS + EPSILON), 0)
    np.testing.assert_allclose(alike(even, labels), expected, rtol=1e-5)


@pytest.mark.parametrize("permutation", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_which_colours_neighbours_have_does_not_matter_to_alike(permutation):
    labels = touching()
    best = 40 * COLOURED.encode(labels)[..., np.array(permutation)] - 20
    assert np.abs(alike(best, labels)).max() < 1e-3
    same = np.zeros_like(best)
    same[..., 2] = 40  # all of them: as bad as can be, but finite
    assert alike(same, labels).max() == pytest.approx(-np.log(EPSILON), rel=0.01)


def test_alike_separates_two_cells_that_have_the_same_colour():
    labels = np.zeros((8, 16), np.int32)
    labels[1:7, 1:8], labels[1:7, 8:15] = 1, 2
    logits = np.random.default_rng(0).normal(0, 0.01, (8, 16, COLOURS)).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda x: alike(x, labels).sum()))
    for _ in range(200):
        logits = logits - gradient(logits)
    decoded = COLOURED.decode(labels > 0, jax.nn.softmax(logits), DecoderConfig())
    assert iou(labels, decoded).min() > 0.9


def test_ids_may_be_larger_than_the_number_of_pixels():
    labels = blocks(0)
    table = np.array([0, 7, 2**30, 12])
    np.testing.assert_allclose(
        alike(logits_of(labels.shape), table[labels]), alike(logits_of(labels.shape), labels), rtol=1e-6
    )


def test_instances_without_a_colour_have_no_cross_entropy():
    labels = touching()
    batch, logits = batch_of(labels), logits_of((1, *labels.shape))
    batch["colours"] = np.zeros_like(batch["colours"])
    np.testing.assert_allclose(loss(logits, batch)[0], alike(logits[0], labels), rtol=1e-5, atol=1e-6)


def test_smoothing_removes_single_pixels_of_another_colour():
    labels = touching()
    values = COLOURED.encode(labels)
    values[14, 14] = values[14, 14, ::-1]
    for smoothing, expected in ((0.0, 9), (1.0, 8)):
        decoded = COLOURED.decode(labels > 0, values, DecoderConfig(smoothing=smoothing))
        assert len(np.unique(decoded[decoded > 0])) == expected
