import warnings

import jax
import numpy as np
import pytest
from skimage import color

from segjax.ops import stain
from tests.oracles import stain as oracle

pytestmark = pytest.mark.usefixtures("quick_to_compile")
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
EVERY = np.ones(600, bool)


def slide(seed=0, count=600, white=0.2):
    """[P, 3] light through two stains in random amounts, a part of it through none."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2.0, 0.4, (count, 2)) * (rng.random((count, 1)) > white)
    density = amounts @ STAINS + rng.normal(0, 0.01, (count, 3))
    return np.clip(np.exp(-density), 0, 1).astype(np.float32)


def colours():
    return np.random.default_rng(1).uniform(0, 1, (20, 20, 3)).astype(np.float32)


def test_cielab_is_scikit_images():
    lab = jax.jit(stain.rgb_to_lab)(colours())
    np.testing.assert_allclose(lab, color.rgb2lab(colours()), atol=2e-3)
    np.testing.assert_allclose(jax.jit(stain.lab_to_rgb)(lab), colours(), atol=1e-4)


def test_colours_out_of_reach_are_clipped_as_by_scikit_image():
    lab = np.random.default_rng(2).uniform([0, -60, -60], [100, 60, 60], (200, 3)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some blue was below nothing
        expected = color.lab2rgb(lab)
    np.testing.assert_allclose(jax.jit(stain.lab_to_rgb)(lab), np.clip(expected, 0, 1), atol=2e-3)


def test_stains_are_taken_apart_as_by_scikit_image():
    amounts = stain.unmix(stain.optical_density(colours(), darkest=1e-6), stain.RUIFROK)
    expected = color.rgb2hed(colours()) * -np.log(1e-6)  # which has no amounts below 0
    np.testing.assert_allclose(np.maximum(amounts, 0), expected, atol=1e-3)


def test_values_that_one_can_compute_by_hand():
    assert stain.optical_density(np.float32(0.1)) == pytest.approx(np.log(10))
    np.testing.assert_allclose(
        jax.jit(stain.rgb_to_lab)(np.ones((1, 3), np.float32)), [[100, 0, 0]], atol=0.02
    )
    amounts = jax.jit(stain.stain_amounts)(np.float32([[1, 0, 2]]), np.float32([[1, 0, 0], [0, 0, 1]]))
    np.testing.assert_allclose(amounts, [[1, 2]], atol=1e-4)
    middle = jax.jit(stain.percentile)(
        np.float32([5, 1, 9, 3]), np.array([True, True, False, True]), np.float32([50, 75])
    )
    np.testing.assert_allclose(middle, [3, 4])


def test_estimated_stains_are_the_oracles_and_near_those_that_made_the_slide():
    light = slide(white=0.0)
    stains, count = jax.jit(stain.stain_matrix)(stain.optical_density(light), EVERY)
    expected, number = oracle.stain_matrix(light)
    assert count == number
    np.testing.assert_allclose(stains, expected, atol=2e-3)
    truth = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    assert (np.sum(np.asarray(stains) * truth, axis=1) > 0.98).all()


@pytest.mark.parametrize("padding", [0, 100])
def test_both_ways_to_normalise_are_the_oracles_whatever_the_padding(padding):
    light = slide()
    padded = np.concatenate([light, np.full((padding, 3), 0.5, np.float32)])
    valid = np.arange(len(padded)) < len(light)
    target = {"stains": np.float32([[0.56, 0.72, 0.41], [0.22, 0.80, 0.56]]), "strongest": np.float32([2, 1])}
    normalised = jax.jit(stain.macenko)(padded, valid, **target)[: len(light)]
    np.testing.assert_allclose(normalised, oracle.macenko(light, **target), atol=5e-3)
    target = {"mean": np.float32([65, 19, -25]), "deviation": np.float32([14, 16, 16])}
    normalised = jax.jit(stain.reinhard)(padded, valid, **target)[: len(light)]
    np.testing.assert_allclose(normalised, oracle.reinhard(light, **target), atol=2e-3)


@pytest.mark.parametrize("shades", [np.zeros((1, 3)), STAINS[:1]], ids=["no stain", "one stain"])
def test_what_has_not_two_stains_stays_as_it_is(shades):
    rng = np.random.default_rng(3)
    density = rng.gamma(2.0, 0.4, (600, 1)) @ shades + rng.normal(0, 0.01, (600, 3))
    light = np.clip(np.exp(-density), 0, 1).astype(np.float32)
    target = {"stains": np.float32([[0.56, 0.72, 0.41], [0.22, 0.80, 0.56]]), "strongest": np.float32([2, 1])}
    np.testing.assert_array_equal(jax.jit(stain.macenko)(light, EVERY, **target), light)


def test_a_flat_image_stays_finite():
    flat = np.full((600, 3), 0.4, np.float32)
    normalised = jax.jit(stain.reinhard)(
        flat, EVERY, mean=np.float32([65, 19, -25]), deviation=np.float32([14, 16, 16])
    )
    assert np.isfinite(normalised).all()
    np.testing.assert_allclose(normalised, normalised[:1].repeat(600, axis=0))
