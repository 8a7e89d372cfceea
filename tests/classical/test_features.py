import numpy as np
import pytest
from scipy import ndimage
from skimage import color
from skimage.feature import local_binary_pattern
from skimage.filters import gabor

from segjax.classical.features import ANGLES, BASIC, FEATURES, FREQUENCIES, basic, extract
from segjax.errors import InputError

IMAGE = np.random.default_rng(0).uniform(size=(40, 33)).astype(np.float32)
DEEP = IMAGE.astype(np.float64)
RGB = np.random.default_rng(0).uniform(size=(12, 9, 3)).astype(np.float32)


def test_extracts_the_named_features():
    maps, names = extract(RGB, RGB.mean(-1), list(FEATURES))
    assert maps.shape == (12, 9, len(names))
    assert maps.dtype == np.float32
    assert len(set(names)) == len(names)
    assert np.isfinite(maps).all()
    start = names.index("intensity")
    assert tuple(names[start : start + 7]) == BASIC
    np.testing.assert_allclose(maps[..., start], RGB.mean(-1), atol=1e-6)
    np.testing.assert_allclose(maps[..., names.index("hue")], color.rgb2hsv(RGB)[..., 0], atol=1e-5)
    # Integers are scaled to 0..1 first.
    np.testing.assert_array_equal(extract(np.full((3, 4, 3), 255, np.uint8), np.ones((3, 4)), ["rgb"])[0], 1)


def test_one_pixel_has_features():
    maps, _ = extract(np.full((1, 1, 3), 0.5, np.float32), np.full((1, 1), 0.5), list(FEATURES))
    assert np.isfinite(maps).all()


def test_says_which_features_there_are():
    with pytest.raises(InputError, match="features='smell' is unknown: choose one of basic"):
        extract(RGB, RGB.mean(-1), ["smell"])
    with pytest.raises(InputError, match="needs red, green and blue, but the image has 1"):
        extract(RGB[..., :1], RGB.mean(-1), ["lab"])


def deviation_oracle(values, size):
    padded = np.pad(values, size // 2, mode="edge")
    statistics = np.zeros(values.shape)
    for y, x in np.ndindex(*values.shape):
        statistics[y, x] = padded[y : y + size, x : x + size].std()
    return statistics


def test_basic_maps_are_those_of_scipy():
    maps = np.asarray(basic(IMAGE))
    expected = {
        "intensity": DEEP,
        "gauss 1": ndimage.gaussian_filter(DEEP, 1, mode="nearest"),
        "gauss 2": ndimage.gaussian_filter(DEEP, 2, mode="nearest"),
        "gauss 4": ndimage.gaussian_filter(DEEP, 4, mode="nearest"),
        "gradient": ndimage.gaussian_gradient_magnitude(DEEP, 1, mode="nearest"),
        "LoG 2": -4 * ndimage.gaussian_laplace(DEEP, 2, mode="nearest"),
        "deviation 7": deviation_oracle(DEEP, 7),
    }
    assert tuple(expected) == BASIC
    for index, (name, values) in enumerate(expected.items()):
        np.testing.assert_allclose(maps[..., index], values, atol=2e-6, err_msg=name)


def test_the_deviation_survives_a_large_offset():
    deviation, shifted = (np.asarray(basic(image))[..., -1] for image in (IMAGE, IMAGE + 3000))
    np.testing.assert_allclose(shifted, deviation, atol=1e-3)


def test_gabor_magnitudes_are_those_of_scikit_image():
    magnitudes = FEATURES["gabor"].compute(DEEP)
    for index, frequency in enumerate(FREQUENCIES):
        expected = [np.hypot(*gabor(DEEP, frequency, theta=theta, mode="nearest")) for theta in ANGLES]
        np.testing.assert_allclose(magnitudes[..., index], np.max(expected, axis=0), atol=1e-5)


def test_local_binary_patterns_are_rotation_invariant_and_uniform():
    levels = np.random.default_rng(1).integers(0, 256, (30, 31))
    patterns = FEATURES["local_binary_pattern"].compute(levels / 255)
    np.testing.assert_array_equal(patterns, local_binary_pattern(levels.astype(np.uint8), 8, 1, "uniform"))
    turned = FEATURES["local_binary_pattern"].compute(np.rot90(levels) / 255)
    assert (turned[1:-1, 1:-1] == np.rot90(patterns)[1:-1, 1:-1]).mean() > 0.99


@pytest.mark.parametrize("shape", [(1, 1), (1, 7)])
def test_a_flat_map_has_no_texture(shape):
    flat = np.full(shape, 0.4, np.float32)
    maps = np.asarray(basic(flat))
    np.testing.assert_allclose(maps[..., :4], 0.4, atol=1e-6)
    # The sampled kernel of the Laplacian, like SciPy's, does not sum to quite 0.
    np.testing.assert_allclose(maps[..., 4:], 0, atol=1e-3)
