import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.augmentation import photometric

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEYS = jax.random.split(jax.random.key(0), 24)
SIZE = 48


def disc(radius=8.0):
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return (np.hypot(rows, columns) < radius).astype(np.int32)


def nucleus():
    return (0.02 + 0.8 * disc())[..., None].astype(np.float32)


def every(function):
    """The results for all keys."""
    return np.asarray(jax.jit(jax.vmap(function))(KEYS))


@jax.jit
def glows(image, labels):
    glow = functools.partial(photometric.glow, strength=0.6, radius=(4.0, 8.0))
    return jax.vmap(glow, in_axes=(0, None, None))(KEYS, image, labels)


def test_fields_have_no_mean_unit_spread_and_change_slowly():
    fields = every(lambda key: photometric.smooth_field(key, (SIZE, SIZE), spacing=12.0, channels=4))
    assert fields.shape == (len(KEYS), SIZE, SIZE, 4)
    assert abs(fields.mean()) < 0.05
    np.testing.assert_allclose(fields.std(axis=(0, 3)), 1, atol=0.4)  # at the edges as in the middle
    assert abs(fields.std() - 1) < 0.05
    assert np.abs(np.diff(fields, axis=1)).mean() < 0.12
    assert abs(np.corrcoef(fields[..., 0].ravel(), fields[..., 1].ravel())[0, 1]) < 0.2


def test_glow_lights_up_what_surrounds_a_nucleus_in_about_half_of_the_images():
    images = np.asarray(glows(nucleus(), disc()))
    added = images - nucleus()
    assert (added >= -1e-6).all()
    glowing = added.max(axis=(1, 2, 3)) > 1e-3
    assert 0.25 < glowing.mean() < 0.75
    assert not added[~glowing].any()
    near, far = disc(13.0) - disc() == 1, disc(30.0) == 0
    assert (added[glowing][:, near].mean(axis=(1, 2)) > 2 * added[glowing][:, far].mean(axis=(1, 2))).all()


def test_glow_is_nothing_where_there_are_no_cells_and_no_light():
    dark, empty = np.zeros((SIZE, SIZE, 1), np.float32), np.zeros((SIZE, SIZE), np.int32)
    images = glows(dark, empty)
    np.testing.assert_array_equal(images, np.zeros_like(images))


def test_illumination_is_smooth_and_bounded_by_its_strength():
    flat = np.full((SIZE, SIZE, 2), 0.9, np.float32)
    light = every(lambda key: photometric.illumination(key, flat, strength=0.3))
    assert 0.6 - 1e-5 <= light.min() < 0.75  # 1 - 0.3, the pedestal off again
    assert 1.05 < light.max() <= 1.2 + 1e-5
    assert np.abs(np.diff(light, axis=1)).mean() < 0.02
    np.testing.assert_array_equal(light[..., 0], light[..., 1])  # one lamp for all channels


def test_gamma_bends_between_two_fixed_points_and_each_channel_by_itself():
    ramp = np.linspace(-0.1, 1, SIZE, dtype=np.float32)
    images = every(
        lambda key: photometric.gamma(key, np.tile(ramp[:, None, None], (1, 3, 2)), exponents=(0.5, 2.0))
    )
    np.testing.assert_array_equal(images[:, ramp <= 0], 0)
    np.testing.assert_allclose(images[:, -1], 1)
    power = np.log(images[:, 30, 0]) / np.log(ramp[30])
    assert 0.5 <= power.min() < 0.8 < 1.3 < power.max() <= 2.0
    assert (np.abs(power[:, 0] - power[:, 1]) > 1e-3).all()


def test_noise_grows_with_the_light():
    halves = np.zeros((SIZE, SIZE, 1), np.float32)
    halves[SIZE // 2 :] = 1.0
    grain = every(lambda key: photometric.noise(key, halves, strength=0.1)) - halves
    dark, bright = grain[:, : SIZE // 2].std(axis=(1, 2, 3)), grain[:, SIZE // 2 :].std(axis=(1, 2, 3))
    np.testing.assert_allclose(bright / dark, np.sqrt(1.1 / 0.1), rtol=0.15)
    assert 0.05 < bright.max() < 0.11
    np.testing.assert_allclose(grain.mean(), 0, atol=1e-3)


def test_contrast_and_brightness_make_a_line_within_their_bounds():
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32).reshape(-1, 1, 1) * np.ones((1, 3, 1), np.float32)

    def both(key):
        return photometric.brightness(key, photometric.contrast(key, ramp, strength=0.2), strength=0.1)

    images = every(both)[:, :, 0, 0]
    shift, factor = images[:, 0], images[:, -1] - images[:, 0]
    assert 0.05 < np.abs(shift).max() <= 0.1
    assert 0.1 < np.abs(factor - 1).max() <= 0.2 + 1e-6
    np.testing.assert_allclose(np.diff(images, n=2, axis=1), 0, atol=1e-6)
    assert np.abs(np.corrcoef(shift, factor)[0, 1]) < 0.6  # from numbers of their own


@pytest.mark.parametrize("change", [lambda x: 3 * x + 0.5, lambda x: x / 5 - 2])
def test_the_range_is_restored_after_any_linear_change(change):
    image = np.random.default_rng(0).uniform(0, 0.4, (SIZE, SIZE, 2)).astype(np.float32)
    restored = photometric.restore_range(change(image), *photometric.intensity_range(image))
    np.testing.assert_allclose(restored, image, atol=1e-5)


def test_the_range_is_made_of_percentiles_channel_by_channel():
    image = np.random.default_rng(1).uniform(0, 1, (40, 40, 2)).astype(np.float32) * [1, 5]
    low, high = photometric.intensity_range(image)
    np.testing.assert_allclose(low[0, 0], np.percentile(image, 1, axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(high[0, 0], np.percentile(image, 99.8, axis=(0, 1)), rtol=1e-5)


def test_a_flat_image_is_not_blown_up():
    flat = jnp.full((SIZE, SIZE, 1), 0.3)
    np.testing.assert_allclose(
        photometric.restore_range(flat + 1, *photometric.intensity_range(flat)), flat, atol=1e-6
    )


def test_logarithmic_numbers_have_their_middle_at_the_geometric_mean():
    assert photometric.between((0.5, 2.0), jnp.array(0.5), logarithmic=True) == pytest.approx(1.0)
    assert photometric.between((0.5, 2.0), jnp.array(0.5)) == pytest.approx(1.25)
