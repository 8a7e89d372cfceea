"""How a network sees a large image."""

import tracemalloc
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.preprocess import Preprocessing, percentile_normalise
from segjax.data.stain import normalise_stain
from segjax.errors import InputError
from segjax.inference.large.grid import Grid
from segjax.inference.large.intensities import measure_intensities
from segjax.inference.large.scale import MAX_CHANGE, measure_scale
from segjax.inference.predictor import create_predictor
from segjax.inference.settings import PredictConfig
from tests.data.test_lazy import Array

RNG = np.random.default_rng(0)


def boxes(level):
    return [tile.core for tile in Grid(level.shape[:2], 256, 0).tiles()]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiles_are_normalised_as_the_full_image(dtype):
    image = (RNG.gamma(2.0, 20.0, (300, 410, 2)) % 250).astype(dtype)
    level = Array(image)
    intensities = measure_intensities(level, boxes(level), Preprocessing())
    expected = percentile_normalise(image)
    np.testing.assert_allclose(
        intensities.normalise(image[7:90, 5:60]), expected[7:90, 5:60], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(intensities.highest, image.max(axis=(0, 1)))


def test_a_sample_of_pixels_is_kept_and_not_the_image():
    class Made(Array):
        def read(self, top, left, height, width):
            return np.full((height, width, 1), top + left, np.float32)

    level = Made(np.broadcast_to(np.float32(0), (8192, 8192, 1)))
    tiles = [tile.core for tile in Grid(level.shape[:2], 2048, 0).tiles()]
    tracemalloc.start()
    measure_intensities(level, tiles, Preprocessing())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8192 * 8192 * 4 / 2


def test_a_channel_that_is_nearly_constant_is_normalised_as_the_full_image():
    image = np.zeros((300, 410, 1), np.uint8)
    image[5, 5] = 9
    level = Array(image)
    intensities = measure_intensities(level, boxes(level), Preprocessing())
    np.testing.assert_array_equal(intensities.normalise(image), percentile_normalise(image))


def test_stains_of_a_tile_are_those_of_the_image():
    image = RNG.integers(60, 250, (256, 256, 3)).astype(np.uint8)
    image[:, 128:] //= 2
    level = Array(image)
    intensities = measure_intensities(level, boxes(level), Preprocessing(stain="reinhard"))
    full = percentile_normalise(normalise_stain(image, "reinhard"), low=1.0, high=99.8)
    np.testing.assert_allclose(intensities.normalise(image[:, 128:]), full[:, 128:], atol=2e-3)


def test_a_damaged_part_is_left_out_and_a_damaged_image_is_an_error():
    image = RNG.integers(0, 99, (300, 410, 1)).astype(np.uint8)

    class Damaged(Array):
        def read(self, top, left, height, width):
            if left == 0 or self.shape[0] < 300:
                raise InputError("damaged")
            return super().read(top, left, height, width)

    level = Damaged(image)
    intensities = measure_intensities(level, boxes(level), Preprocessing())
    assert intensities.highest == image[:, 256:].max()
    with pytest.raises(InputError, match="damaged"):
        measure_intensities(Damaged(image[:200]), boxes(Damaged(image[:200])), Preprocessing())


def test_the_margin_is_where_pixels_hardly_change_the_output():
    decay = np.exp(-np.abs(np.arange(-90, 91)) / 6)

    def predict(params, images):
        for axis in ((181, 1), (1, 181)):
            kernel = jnp.asarray(decay / decay.sum(), jnp.float32).reshape(*axis, 1, 1)
            images = jax.lax.conv_general_dilated(
                images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return {"p": images[..., 0] * params}

    task = SimpleNamespace(predict=predict, stride=8)
    predictor = create_predictor(
        task, jnp.float32(1), prepare=Preprocessing(), config=PredictConfig(tile=128, overlap=16)
    )
    level = Array(RNG.integers(0, 200, (600, 700, 1)).astype(np.uint8))
    intensities = measure_intensities(level, boxes(level), Preprocessing())
    scale = measure_scale(predictor, level, intensities, boxes(level))
    assert predictor.margin(1) == 90
    assert scale.factor == 1
    # Of a step at the edge, exp(-d / 6) / 2 is left at a distance of d.
    expected = 6 * np.log(0.5 / MAX_CHANGE)
    assert expected - 8 < scale.margin < expected + 16
    assert scale.margin % 8 == 0
