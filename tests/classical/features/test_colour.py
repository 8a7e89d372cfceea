import jax
import numpy as np
import pytest
from skimage import color

from segjax.classical.features import FEATURES, HAND_MADE, colour, extract
from segjax.errors import InputError

IMAGE = np.random.default_rng(0).uniform(size=(12, 9, 3)).astype(np.float32)
IMAGE[0, :5] = [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0.3, 0.3, 0.3]]


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [(colour.hsv, color.rgb2hsv, 1e-5), (colour.lab, color.rgb2lab, 1e-3), (colour.hed, color.rgb2hed, 1e-5)],
)
def test_agrees_with_scikit_image(ours, theirs, tolerance):
    np.testing.assert_allclose(jax.jit(ours)(IMAGE), theirs(IMAGE.astype(np.float64)), atol=tolerance)


def test_known_colours():
    pixel = np.array([[[1.0, 0, 0], [0, 0, 1.0], [1, 1, 1]]])
    np.testing.assert_allclose(colour.hsv(pixel)[0], [[0, 1, 1], [2 / 3, 1, 1], [0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(colour.lab(pixel)[0, 2], [100, 0, 0], atol=1e-2)
    np.testing.assert_allclose(colour.hed(pixel)[0, 2], 0, atol=1e-6)


def test_extracts_what_is_named_for_every_image():
    images = np.stack([IMAGE, IMAGE[::-1]])
    maps, names = extract(images, list(FEATURES))
    assert maps.shape == (2, 12, 9, len(names))
    assert len(set(names)) == len(names)
    assert np.isfinite(maps).all()
    start = names.index("intensity")
    assert names[start : start + 7] == HAND_MADE
    np.testing.assert_allclose(maps[1, ..., start], IMAGE[::-1].mean(-1), atol=1e-6)
    np.testing.assert_allclose(maps[0, ..., names.index("hue")], color.rgb2hsv(IMAGE)[..., 0], atol=1e-5)


def test_one_pixel_has_features():
    maps, _ = extract(np.full((1, 1, 1, 3), 0.5, np.float32), list(FEATURES))
    assert np.isfinite(maps).all()


def test_says_which_features_there_are():
    with pytest.raises(InputError, match="choose among rgb"):
        extract(IMAGE[None], ["smell"])
    with pytest.raises(InputError, match="needs red, green and blue, not 1"):
        extract(IMAGE[None, ..., :1], ["lab"])
