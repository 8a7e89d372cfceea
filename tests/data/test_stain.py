import jax
import numpy as np
import pytest

from segjax.data.preprocess import preprocess_image
from segjax.data.stain import DARKEST, normalise_stain, stain_jitter
from segjax.errors import InputError
from segjax.ops.stain import RUIFROK

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEYS = jax.random.split(jax.random.key(0), 16)


def tissue(size=48, seed=0, scale=255, dtype=np.uint8, strength=1.0):
    """A bright slide with pink everywhere and blue discs."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    nuclei = (np.hypot(rows % 16 - 8, columns % 16 - 8) < 5)[..., None]
    pink = rng.gamma(4.0, 0.2, (size, size, 1)) * (columns[..., None] > 8)
    blue = nuclei * rng.uniform(0.7, 1.3, (size, size, 1))
    density = strength * (blue * [0.6, 0.7, 0.35] + pink * [0.15, 0.85, 0.45])
    return np.round(scale * np.exp(-density)).astype(dtype)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_slides_of_two_laboratories_become_alike(method):
    pale, strong = (normalise_stain(tissue(strength=strength), method) for strength in (0.7, 1.5))
    assert pale.shape == (48, 48, 3)
    assert pale.dtype == np.float32
    assert pale.min() >= 0
    assert pale.max() <= 1
    before = np.abs(tissue(strength=0.7) / 255 - tissue(strength=1.5) / 255).mean()
    assert np.abs(pale - strong).mean() < 0.35 * before


@pytest.mark.parametrize(
    ("scale", "dtype"), [(65_535, np.uint16), (4095, np.uint16), (1, np.float32)], ids=str
)
def test_the_type_of_the_numbers_makes_no_difference(scale, dtype):
    light = tissue().astype(np.float64) / 255
    image = (light * scale).astype(dtype) if scale == 1 else np.round(light * scale).astype(dtype)
    image[0, 0] = scale
    eight = tissue()
    eight[0, 0] = 255
    np.testing.assert_allclose(
        normalise_stain(image, "macenko"), normalise_stain(eight, "macenko"), atol=0.02
    )


def test_grey_and_other_images_are_left_alone():
    grey = np.repeat(tissue()[..., :1], 3, axis=-1)
    for image in (grey, grey[..., :1], np.concatenate([tissue(), grey[..., :1]], axis=-1)):
        assert normalise_stain(image, "reinhard") is image
    assert normalise_stain(tissue(), None).dtype == np.uint8


def test_prediction_and_training_prepare_alike():
    plain, normalised = preprocess_image(tissue()), preprocess_image(tissue(), stain="macenko")
    assert plain.shape == normalised.shape
    assert (plain != normalised).any()
    with pytest.raises(InputError, match=r"stain='vahadane' is unknown: choose one of macenko"):
        preprocess_image(tissue(), stain="vahadane")


def patch(density):
    """What a network sees of a slide whose channels were stretched as usual."""
    return ((np.exp(-density) - DARKEST) / (1 - DARKEST)).astype(np.float32)


def jittered(image, strength=0.5):
    return np.asarray(jax.jit(jax.vmap(lambda key: stain_jitter(key, image, strength=strength)))(KEYS))


def test_a_jitter_moves_colours_along_the_two_stains_alone():
    density = np.random.default_rng(0).gamma(2.0, 0.05, (6, 6, 2)) @ RUIFROK[:2]
    changed = -np.log(jittered(patch(density)) * (1 - DARKEST) + DARKEST) - density
    residual = np.cross(*RUIFROK[:2])
    np.testing.assert_allclose(changed @ residual, 0, atol=1e-3)
    assert np.abs(changed).max() > 0.02


def test_a_jitter_is_a_line_in_the_amount_of_each_stain():
    amounts = np.stack(np.meshgrid(np.linspace(0, 0.4, 5), np.linspace(0, 0.4, 5)), axis=-1)
    densities = -np.log(jittered(patch(amounts @ RUIFROK[:2])) * (1 - DARKEST) + DARKEST)
    basis = np.stack([*RUIFROK[:2], np.cross(*RUIFROK[:2])])
    first = (densities @ np.linalg.inv(basis))[..., 0]
    slopes = (first[:, 0, 4] - first[:, 0, 0]) / 0.4
    assert 0.5 <= slopes.min() < 0.8 < 1.2 < slopes.max() <= 1.5
    np.testing.assert_allclose(
        first, first[:, :1].repeat(5, 1), atol=1e-4
    )  # the other stain has no part in it
    assert 0 < np.abs(first[:, 0, 0]).max() <= 0.2 * 0.5


def test_no_strength_is_no_change_and_grey_stays_grey():
    image = np.random.default_rng(1).uniform(0, 1, (6, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(jittered(image, strength=0.0)[0], image, atol=1e-5)
    grey = np.repeat(image[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(jittered(grey)[0], grey)
    for channels in (1, 2, 4):
        other = np.ones((6, 6, channels), np.float32)
        assert stain_jitter(KEYS[0], other, strength=0.5) is other
