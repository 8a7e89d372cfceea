import jax
import numpy as np
import pytest
from sklearn.cluster import KMeans

from segjax.ops import kmeans as clustering
from tests.oracles import kmeans as oracle

KEY = jax.random.key(0)
seed = jax.jit(clustering.seed, static_argnames="num_clusters")
lloyd = jax.jit(clustering.lloyd, static_argnames="max_steps")


def blobs(count=300, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(4, 3)) * 6
    return (middles[rng.integers(0, 4, count)] + rng.normal(size=(count, 3)) + offset).astype(np.float32)


EVERY = np.ones(300, bool)


@pytest.mark.parametrize("offset", [0.0, 2000.0])
def test_agrees_with_the_oracle_and_with_scikit_learn(offset):
    points = blobs(offset=offset)
    begin = points[:5]
    clusters = lloyd(points, EVERY, begin)
    centres, assignment, inertia = oracle.lloyd(points, begin)
    np.testing.assert_allclose(clusters.centres, centres, atol=1e-3)
    np.testing.assert_array_equal(clusters.assignment, assignment)
    np.testing.assert_allclose(clusters.inertia, inertia, rtol=1e-4)
    expected = KMeans(5, init=begin.astype(float), n_init=1, algorithm="lloyd").fit(points.astype(float))
    np.testing.assert_allclose(clusters.inertia, expected.inertia_, rtol=1e-4)


def test_by_hand():
    points = np.array([[0.0], [1], [9], [11], [10], [500]], np.float32)
    valid = np.array([1, 1, 1, 1, 1, 0], bool)
    clusters = lloyd(points, valid, np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(clusters.centres, [[0.5], [10]], atol=1e-5)
    assert clusters.assignment.tolist()[:5] == [0, 0, 1, 1, 1]
    assert clusters.inertia == pytest.approx(0.5 + 2)


def test_padding_changes_nothing():
    points = blobs()
    padded = np.concatenate([points, np.full((40, 3), 1e3, np.float32)])
    valid = np.arange(340) < 300
    padded_clusters, alone = lloyd(padded, valid, points[:3]), lloyd(points, EVERY, points[:3])
    np.testing.assert_allclose(padded_clusters.centres, alone.centres, atol=1e-4)
    np.testing.assert_allclose(padded_clusters.inertia, alone.inertia, rtol=1e-5)
    drawn = np.asarray(seed(KEY, padded, valid, num_clusters=8))
    assert drawn.max() < 1e2


def test_a_centre_without_points_stays():
    clusters = lloyd(blobs(), EVERY, np.array([[0, 0, 0], [1e4, 0, 0], [2, 2, 2]], np.float32))
    np.testing.assert_allclose(clusters.centres[1], [1e4, 0, 0])
    assert not (clusters.assignment == 1).any()


def test_seeds_are_distinct_points_far_apart():
    points = np.repeat(np.array([[0.0, 0], [0, 0.001], [50, 0], [0, 50]], np.float32), 75, axis=0)
    drawn = np.asarray(seed(KEY, points, EVERY, num_clusters=3))
    assert len({(round(x), round(y)) for x, y in drawn.tolist()}) == 3
    # Of four distinct points, six cannot be; nothing breaks.
    again = np.asarray(seed(KEY, points, EVERY, num_clusters=6))
    assert np.isfinite(again).all()
    assert {tuple(row) for row in again.tolist()} == {tuple(row) for row in points.tolist()}


def test_the_best_of_several_restarts_is_kept():
    points = blobs(seed=3)
    clusters = clustering.kmeans(KEY, points, EVERY, num_clusters=4, restarts=6)
    each = [
        lloyd(points, EVERY, seed(key, points, EVERY, num_clusters=4)).inertia
        for key in jax.random.split(KEY, 6)
    ]
    assert clusters.inertia == pytest.approx(float(min(each)), rel=1e-5)
    assert max(each) > 1.05 * min(each)
    same = clustering.kmeans(KEY, points, EVERY, num_clusters=4, restarts=6)
    np.testing.assert_array_equal(clusters.centres, same.centres)


def test_what_won_on_a_sample_comes_to_rest_among_all():
    points = blobs(count=1000, seed=5)
    every = np.ones(1000, bool)
    clusters = clustering.kmeans(KEY, points, every, num_clusters=4, restarts=3, sample=100)
    begin = clustering.kmeans(KEY, points[::10], every[::10], num_clusters=4, restarts=3).centres
    _, assignment, inertia = oracle.lloyd(points, begin)
    np.testing.assert_allclose(clusters.inertia, inertia, rtol=1e-4)
    np.testing.assert_array_equal(clusters.assignment, assignment)


def test_a_batch_is_clustered_as_each_alone():
    batch = np.stack([blobs(seed=1), blobs(seed=2)])
    valid = np.ones((2, 300), bool)
    begins = batch[:, :3]
    together = jax.vmap(lloyd)(batch, valid, begins)
    for index in range(2):
        alone = lloyd(batch[index], EVERY, begins[index])
        np.testing.assert_allclose(together.inertia[index], alone.inertia, rtol=1e-5)
        np.testing.assert_array_equal(together.assignment[index], alone.assignment)
