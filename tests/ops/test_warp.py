import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segjax.ops.warp import sample, sample_inside
from tests.oracles import warp as oracle


def places(seed, count=40, low=-9.0, high=16.0):
    """Rows and columns, some of them far outside of an image of 7 x 8."""
    return np.random.default_rng(seed).uniform(low, high, (2, count // 5, 5)).astype(np.float32)


def picture(seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (7, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("fill", [None, 0.25])
@pytest.mark.parametrize("order", [0, 1])
def test_agrees_with_one_place_at_a_time(order, fill):
    values = sample(picture(), places(order), order=order, fill=fill)
    np.testing.assert_allclose(
        values, oracle.sample(picture(), places(order), order=order, fill=fill), atol=1e-5
    )


def test_integers_stay_what_they_are():
    labels = np.random.default_rng(1).integers(0, 70_000, (7, 8, 2)).astype(np.int32)
    values = sample(labels, places(2), order=0, fill=-1)
    assert values.dtype == jnp.int32
    np.testing.assert_array_equal(values, oracle.sample(labels, places(2), order=0, fill=-1))


def test_whole_coordinates_return_the_pixels_to_the_bit():
    grid = np.stack(np.meshgrid(np.arange(7.0), np.arange(8.0), indexing="ij")).astype(np.float32)
    np.testing.assert_array_equal(sample(picture(), grid, order=1), picture())


def test_values_that_one_can_compute_by_hand():
    image = jnp.array([[0.0, 1.0], [2.0, 4.0]])[..., None]
    middle, beyond = jnp.array([[0.5], [0.5]]), jnp.array([[0.0], [-1.0]])
    assert sample(image, middle, order=1)[0, 0] == 7 / 4
    assert sample(image, beyond, order=1)[0, 0] == 1  # the neighbour of the edge, mirrored
    assert sample(image, beyond, order=1, fill=9.0)[0, 0] == 9


def test_gradients_are_those_of_finite_differences():
    inner = places(3, low=0.6, high=5.4)
    check_grads(jax.jit(lambda image: sample(image, inner, order=1)), (picture(),), order=1, modes=["rev"])


def test_a_batch_by_vmap_is_its_images_one_by_one():
    images, coordinates = np.stack([picture(0), picture(1)]), np.stack([places(0), places(1)])
    together = jax.vmap(lambda i, c: sample(i, c, order=1))(images, coordinates)
    for image, place, values in zip(images, coordinates, together, strict=True):
        np.testing.assert_allclose(values, sample(image, place, order=1), atol=1e-6)


def instances():
    return np.random.default_rng(5).integers(0, 3, (7, 8)).astype(np.int32)


def test_inside_agrees_with_one_place_at_a_time():
    values, coordinates = picture()[..., 0], places(4, low=-3.0, high=10.0)
    own = np.random.default_rng(6).integers(0, 3, coordinates.shape[1:])
    actual = sample_inside(values, instances(), coordinates, own)
    np.testing.assert_allclose(actual, oracle.sample_inside(values, instances(), coordinates, own), atol=1e-5)
    assert (actual == 0).any()


def test_inside_one_instance_is_bilinear_interpolation():
    values, inner = picture()[..., 0], places(3, low=0.0, high=6.0)
    actual = sample_inside(values, np.ones((7, 8), np.int32), inner, np.ones(inner.shape[1:], np.int32))
    np.testing.assert_allclose(actual, sample(values[..., None], inner, order=1)[..., 0], atol=1e-6)


def test_a_neighbour_has_no_effect_however_high_it_is():
    values, labels = np.array([[1.0, 2.0, 1e6]], np.float32), np.array([[1, 1, 2]])
    coordinates = np.array([[0, 0, 0], [0.5, 1.4, 1.6]], np.float32)
    np.testing.assert_allclose(sample_inside(values, labels, coordinates, np.array([1, 1, 2])), [1.5, 2, 1e6])
