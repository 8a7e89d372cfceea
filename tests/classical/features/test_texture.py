from functools import partial

import jax
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.filters import gabor

from segjax.classical.features import HAND_MADE, hand_made, texture

IMAGE = np.random.default_rng(0).uniform(size=(40, 33)).astype(np.float32)
DEEP = IMAGE.astype(np.float64)
COARSE = jax.jit(partial(texture.cooccurrence, size=9, levels=2))


def deviation_oracle(values, size):
    padded = np.pad(values, size // 2, mode="edge")
    found = np.zeros(values.shape)
    for y, x in np.ndindex(*values.shape):
        found[y, x] = padded[y : y + size, x : x + size].std()
    return found


def test_hand_made_maps_are_those_of_scipy():
    maps = np.asarray(jax.jit(hand_made)(IMAGE))
    expected = {
        "intensity": DEEP,
        "gauss 1": ndimage.gaussian_filter(DEEP, 1, mode="nearest"),
        "gauss 2": ndimage.gaussian_filter(DEEP, 2, mode="nearest"),
        "gauss 4": ndimage.gaussian_filter(DEEP, 4, mode="nearest"),
        "gradient": ndimage.gaussian_gradient_magnitude(DEEP, 1, mode="nearest"),
        "LoG 2": -4 * ndimage.gaussian_laplace(DEEP, 2, mode="nearest"),
        "deviation 7": deviation_oracle(DEEP, 7),
    }
    assert tuple(expected) == HAND_MADE
    for index, (name, values) in enumerate(expected.items()):
        np.testing.assert_allclose(maps[..., index], values, atol=2e-6, err_msg=name)


def test_a_disc_answers_most_at_its_own_scale():
    y, x = np.mgrid[-30:31, -30:31]
    disc = (y**2 + x**2 <= 8**2).astype(np.float32)
    sigmas = (3.0, 8 / 2**0.5, 9.0)
    answers = [float(jax.jit(partial(texture.laplacian, sigma=sigma))(disc)[30, 30]) for sigma in sigmas]
    assert max(answers) == answers[1] > 0


def test_the_deviation_survives_a_large_offset():
    deviation = jax.jit(partial(texture.deviation, size=7))
    np.testing.assert_allclose(deviation(IMAGE + 3000), deviation(IMAGE), atol=1e-3)


def test_gabor_magnitudes_are_those_of_scikit_image():
    turns = 2
    found = jax.jit(partial(texture.gabor, frequencies=(0.2,), turns=turns))(IMAGE)[..., 0]
    expected = [
        np.hypot(*gabor(DEEP, 0.2, theta=np.pi * turn / turns, mode="nearest")) for turn in range(turns)
    ]
    np.testing.assert_allclose(found, np.max(expected, axis=0), atol=1e-5)


def test_local_binary_patterns_are_those_of_scikit_image():
    levels = np.random.default_rng(1).integers(0, 5, (30, 31))
    found = np.asarray(texture.local_binary_pattern(levels))
    expected = local_binary_pattern(levels, 8, 1, "uniform")
    np.testing.assert_array_equal(found[1:-1, 1:-1], expected[1:-1, 1:-1])
    assert (texture.local_binary_pattern(np.full((4, 5), 0.3)) == 8).all()


def test_cooccurrence_is_that_of_the_window():
    levels = np.random.default_rng(2).integers(0, 4, (24, 24))
    levels[0, :4] = range(4)
    found = np.asarray(jax.jit(partial(texture.cooccurrence, size=9, levels=4))(levels))[12, 13]
    # The window holds the first of each pair, so the second may lie one beyond it.
    window = levels[8:17, 9:18]
    counts = np.zeros((4, 4))
    for pair in ((levels[8:17, 10:19]), (levels[9:18, 9:18])):
        for a, b in zip(window.ravel(), pair.ravel(), strict=True):
            counts[a, b] += 1
            counts[b, a] += 1
    matrix = (counts / counts.sum())[..., None, None]
    expected = [graycoprops(matrix, name)[0, 0] for name in ("contrast", "homogeneity", "correlation")]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_cooccurrence_by_hand():
    stripes = np.tile([0.0, 1.0], (20, 10))
    contrast, homogeneity, correlation = np.asarray(COARSE(stripes))[10, 9]
    # Half of the pairs go along the row and differ by one level, half go down and are equal.
    assert contrast == pytest.approx(0.5, abs=1e-5)
    assert homogeneity == pytest.approx(0.75, abs=1e-5)
    matrix = graycomatrix(stripes.astype(np.uint8), [1], [0, np.pi / 2], 2, symmetric=True, normed=True)
    assert graycoprops(matrix, "contrast").mean() == pytest.approx(0.5, abs=1e-5)
    assert correlation == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7)])
def test_a_flat_map_has_no_texture(shape):
    flat = np.full(shape, 0.4, np.float32)
    maps = np.asarray(jax.jit(hand_made)(flat))
    np.testing.assert_allclose(maps[..., :4], 0.4, atol=1e-6)
    # The sampled kernel of the Laplacian, like SciPy's, does not sum to quite 0.
    np.testing.assert_allclose(maps[..., 4:], 0, atol=1e-3)
    found = jax.jit(texture.cooccurrence)(flat)
    np.testing.assert_allclose(found, np.broadcast_to([0, 1, 1], (*shape, 3)), atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    check_grads(lambda x: texture.gaussian(x, 1.0), (IMAGE[:6, :5],), order=1, modes=["rev"], rtol=2e-2)
