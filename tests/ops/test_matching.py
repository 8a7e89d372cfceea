from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops import matching
from segjax.ops.matching import sample
from tests.ops.test_boxes import some
from tests.oracles import matching as oracle

match = jax.jit(matching.match, static_argnames=("high", "low", "low_quality"))


@pytest.mark.parametrize("low_quality", [False, True])
def test_agrees_with_one_box_at_a_time(low_quality, monkeypatch):
    monkeypatch.setattr(matching, "CHUNK", 5)  # 12 objects are two chunks and a part
    boxes, truth = some(0, 100), some(1, 12)
    valid = np.arange(12) % 4 != 0
    options = {"high": 0.6, "low": 0.3, "low_quality": low_quality}
    actual = partial(matching.match, **options)(boxes, truth, valid)
    state, index = oracle.match(boxes, truth, valid, **options)
    np.testing.assert_array_equal(actual.state, state)
    np.testing.assert_array_equal(actual.target[state == 1], index[state == 1])
    assert set(state) == {-1, 0, 1}


def test_the_best_box_of_an_object_is_positive_but_not_one_that_misses_it():
    truth = jnp.array([[0.0, 0, 10, 10], [100, 100, 110, 110]])
    boxes = jnp.array([[0.0, 0, 10, 2], [0, 0, 10, 1], [50, 50, 60, 60]])
    actual = match(boxes, truth, jnp.ones(2, bool), high=0.7, low=0.3, low_quality=True)
    assert actual.state.tolist() == [1, 0, 0]
    actual = match(boxes, truth, jnp.ones(2, bool), high=0.7, low=0.3)
    assert actual.state.tolist() == [0, 0, 0]


def test_without_objects_everything_is_negative():
    actual = match(some(0, 5), jnp.zeros((3, 4)), jnp.zeros(3, bool), high=0.7, low=0.3, low_quality=True)
    assert actual.state.tolist() == [0] * 5
    assert actual.target.tolist() == [0] * 5


STATE = np.array([1] * 10 + [0] * 50 + [-1] * 40)


@pytest.mark.parametrize(("count", "share", "positives"), [(16, 0.5, 8), (64, 0.5, 10), (16, 0.25, 4)])
def test_draws_positives_up_to_a_share_and_fills_up_with_negatives(count, share, positives):
    drawn = sample(jax.random.key(0), STATE, count=count, positive_fraction=share)
    assert drawn.positive.sum() == positives
    assert drawn.positive[:positives].all()
    usable = np.array(drawn.indices)[np.array(drawn.valid)]
    assert len(np.unique(usable)) == len(usable) == min(count, positives + 50)
    np.testing.assert_array_equal(STATE[usable], np.array(drawn.positive)[np.array(drawn.valid)])


def test_every_box_has_the_same_chance():
    drawn = jax.vmap(lambda key: sample(key, STATE, count=16, positive_fraction=0.25).indices)(
        jax.random.split(jax.random.key(1), 500)
    )
    counts = np.bincount(np.array(drawn).ravel(), minlength=100)
    # 4 of 10 positives 500 times: 200 each, with a standard deviation of 11.
    assert np.abs(counts[:10] - 200).max() < 60
    assert counts[60:].sum() == 0


def test_nothing_to_draw_from():
    drawn = sample(jax.random.key(0), np.full(20, -1), count=8, positive_fraction=0.5)
    assert not drawn.valid.any()
    assert not drawn.positive.any()


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_torchvision(seed):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    ops = pytest.importorskip("torchvision.ops", reason="the peers extra is not installed")
    from torchvision.models.detection._utils import Matcher

    boxes, truth = some(seed, 5000), some(seed + 50, 40)
    expected = Matcher(0.7, 0.3, True)(ops.box_iou(torch.tensor(truth), torch.tensor(boxes))).numpy()
    actual = match(boxes, truth, np.ones(40, bool), high=0.7, low=0.3, low_quality=True)
    # There, -1 is below the low threshold and -2 between the two.
    np.testing.assert_array_equal(actual.state, np.where(expected >= 0, 1, np.where(expected == -1, 0, -1)))
    np.testing.assert_array_equal(actual.target[expected >= 0], expected[expected >= 0])
