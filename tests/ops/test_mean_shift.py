import jax
import numpy as np
import pytest
from sklearn.cluster import MeanShift

from segjax.errors import InputError
from segjax.ops import grid_mean_shift
from segjax.ops import mean_shift as point_mean_shift
from tests.oracles import mean_shift as oracle

mean_shift = jax.jit(point_mean_shift.mean_shift, static_argnames="max_steps")


def blobs(seed=0, count=300):
    rng = np.random.default_rng(seed)
    middles = np.array([[0, 0, 0], [20, 0, 5], [0, 25, -5], [18, 22, 0]])
    return (middles[np.arange(count) % 4] + rng.normal(size=(count, 3))).astype(np.float32)


EVERY = np.ones(300, bool)


def test_modes_are_those_of_the_oracle_and_of_scikit_learn():
    points = blobs()
    starts = points[:12]
    ends = np.asarray(mean_shift(points, EVERY, starts, bandwidth=4.0))
    np.testing.assert_allclose(ends, oracle.mean_shift(points, starts, 4.0), atol=1e-3)
    expected = MeanShift(bandwidth=4.0, seeds=starts.astype(float)).fit(points.astype(float)).cluster_centers_
    assert len(expected) == 4
    for mode in expected:
        assert np.linalg.norm(ends - mode, axis=1).min() < 1e-3
    for end in ends:
        assert np.linalg.norm(expected - end, axis=1).min() < 1e-3


def test_by_hand():
    points = np.array([[0.0], [1], [2], [10]], np.float32)
    # 0 sees 0 and 1 and goes to 0.5, sees no more and stays; 2 sees 1 and 2; 30 sees nothing.
    ends = mean_shift(points, np.ones(4, bool), np.array([[0.0], [2], [10], [30]]), bandwidth=1.0)
    np.testing.assert_allclose(ends, [[0.5], [1.5], [10], [30]], atol=1e-5)
    without = mean_shift(
        points, np.array([1, 0, 1, 1], bool), np.array([[0.0], [2], [10], [30]]), bandwidth=1.0
    )
    np.testing.assert_allclose(without, [[0], [2], [10], [30]], atol=1e-5)


def test_padding_and_blocks_change_nothing():
    points = blobs(count=5000)  # more than one block of points, and of starts
    padded = np.concatenate([points, np.zeros((500, 3), np.float32)])
    valid = np.arange(5500) < 5000
    few = mean_shift(padded, valid, points[:300], bandwidth=4.0, max_steps=5)
    one = mean_shift(padded, valid, points[299:300], bandwidth=4.0, max_steps=5)
    np.testing.assert_allclose(few[299], one[0], atol=1e-4)
    np.testing.assert_allclose(one, oracle.mean_shift(points, points[299:300], 4.0, steps=5), atol=1e-3)


@pytest.mark.parametrize("bandwidth", [1.0, 2.3])
def test_the_field_is_that_of_the_oracle(bandwidth):
    weights = np.random.default_rng(0).uniform(size=(17, 12)) ** 3
    weights[:6, :6] = 0
    field = grid_mean_shift.grid_shift(weights, bandwidth=bandwidth)
    np.testing.assert_allclose(field, oracle.grid_shift(weights, bandwidth), atol=1e-4)


def test_all_climb_to_the_peaks():
    y, x = np.mgrid[:40, :60]
    weights = np.exp(-((y - 20) ** 2 + (x - 15) ** 2) / 50) + np.exp(-((y - 18) ** 2 + (x - 44) ** 2) / 50)
    field = grid_mean_shift.grid_shift(weights, bandwidth=2.0)
    ends = grid_mean_shift.follow(
        field, np.array([[25.0, 12], [10, 20], [20, 50]]), steps=500, tolerance=1e-4
    )
    np.testing.assert_allclose(ends, [[20, 15], [20, 15], [18, 44]], atol=0.05)


def test_a_mode_at_the_edge_is_not_left():
    weights = np.zeros((9, 9))
    weights[0, 8] = 1
    ends = grid_mean_shift.follow(
        grid_mean_shift.grid_shift(weights, bandwidth=2.0), np.array([[4.0, 4.0]]), steps=50, tolerance=1e-3
    )
    np.testing.assert_allclose(ends, [[0, 8]], atol=1e-2)
    nowhere = grid_mean_shift.grid_shift(np.zeros((9, 9)), bandwidth=2.0)
    assert not np.asarray(nowhere).any()


def test_says_which_bandwidths_there_are():
    for bandwidth in (0, -1.0, float("nan"), (1.0, 2.0, 3.0)):
        with pytest.raises(InputError, match="bandwidth must be above 0"):
            grid_mean_shift.grid_shift(np.ones((3, 3)), bandwidth=bandwidth)
