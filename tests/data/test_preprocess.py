import dataclasses
import tracemalloc

import numpy as np
import pytest

from segjax.data import preprocess
from segjax.data.preprocess import (
    percentile_normalise,
    preprocess_example,
    preprocess_image,
    resize_image,
    resize_labels,
)
from segjax.data.records import Record
from segjax.data.targets import instance_distance
from segjax.errors import InputError
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE
from tests.oracles import distance as oracle

RNG = np.random.default_rng(0)


def test_two_percentiles_become_zero_and_one_and_the_rest_a_straight_line():
    image = np.arange(1001, dtype=np.uint16).reshape(-1, 1, 1)
    normalised = percentile_normalise(image, low=10, high=60)
    np.testing.assert_allclose(normalised[[100, 350, 600, 1000], 0, 0], [0, 0.5, 1, 1.8], rtol=1e-6)
    assert normalised.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_exposure_and_type_do_not_matter(dtype):
    light = RNG.integers(0, 100, (20, 20, 2))
    plain = percentile_normalise(light.astype(dtype))
    np.testing.assert_allclose(plain, percentile_normalise((light * 2 + 7).astype(dtype)), atol=1e-6)
    assert np.ptp(plain) > 0.5


def test_each_channel_has_its_own_percentiles():
    image = np.stack([RNG.uniform(0, 1, (30, 30)), RNG.uniform(0, 100, (30, 30))], axis=-1)
    alone = percentile_normalise(image)
    np.testing.assert_array_equal(alone[..., :1], percentile_normalise(image[..., :1]))
    assert alone[..., 0].max() > 0.9
    assert alone[..., 1].max() < 1.1


@pytest.mark.parametrize("value", [0, 255, 40_000])
def test_a_constant_channel_becomes_zero(value):
    image = np.stack([np.full((8, 8), value, np.uint16), RNG.integers(0, 99, (8, 8), np.uint16)], axis=-1)
    normalised = percentile_normalise(image)
    assert not normalised[..., 0].any()
    assert np.isfinite(normalised).all()
    assert normalised[..., 1].any()


def test_a_few_bright_pixels_on_a_constant_background_stay_visible():
    image = np.full((100, 100, 1), 50, np.uint8)
    image[3, 4], image[5, 6] = 200, 0
    normalised = percentile_normalise(image)
    assert (normalised[0, 0, 0], normalised[3, 4, 0], normalised[5, 6, 0]) == (0.25, 1, 0)


def test_normalisation_needs_little_more_memory_than_its_result():
    image = np.random.default_rng(0).integers(0, 255, (1500, 1000, 3)).astype(np.uint8)
    tracemalloc.start()
    normalised = percentile_normalise(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The result has 4 bytes for each of the image, and percentiles need a copy.
    assert peak < 8 * image.nbytes + 20 * preprocess.BLOCK
    bottom, top = np.percentile(image, (1.0, 99.8), axis=(0, 1))
    np.testing.assert_array_equal(normalised, ((image - bottom) / (top - bottom)).astype(np.float32))


def test_the_extremes_of_float32_do_not_overflow():
    image = np.linspace(-3e38, 3e38, 64, dtype=np.float32).reshape(8, 8, 1)
    normalised = percentile_normalise(image, low=0, high=100)
    np.testing.assert_allclose([normalised.min(), normalised.max()], [0, 1], atol=1e-6)


@pytest.mark.parametrize("factor", [0.3, 0.5, 1, 1.7])
def test_image_and_labels_shrink_and_grow_to_the_same_shape(factor):
    image, labels = RNG.random((21, 34, 2)).astype(np.float32), RNG.integers(0, 9, (21, 34)).astype(np.int32)
    small, ids = resize_image(image, factor), resize_labels(labels, factor)
    assert small.shape == (round(21 * factor), round(34 * factor), 2)
    assert ids.shape == small.shape[:2]
    assert (small.dtype, ids.dtype) == (np.float32, np.int32)
    assert set(np.unique(ids)) <= set(np.unique(labels))


def test_a_stripe_stays_where_it_is_and_nothing_aliases():
    image = np.zeros((40, 40, 1), np.float32)
    image[:, 20:] = 1
    small = resize_image(image, 0.5)[..., 0]
    np.testing.assert_array_equal(small > 0.5, resize_labels(image[..., 0].astype(np.int32), 0.5) > 0)
    # Without a blur only the two bright columns in the middle of every four would be seen.
    stripes = np.tile(np.array([0, 1, 1, 0], np.float32), (40, 10))[..., None]
    np.testing.assert_allclose(resize_image(stripes, 0.25)[3:-3, 3:-3], 0.5, atol=0.1)


def test_labels_are_taken_from_the_middle_of_what_a_pixel_covers():
    labels = np.arange(9, dtype=np.int32).reshape(1, 9).repeat(3, axis=0)
    np.testing.assert_array_equal(resize_labels(labels, 1 / 3), [[1, 4, 7]])
    np.testing.assert_array_equal(resize_labels(labels[:, :2], 2)[0], [0, 0, 1, 1])


def test_an_image_never_shrinks_to_nothing():
    assert preprocess_image(np.zeros((5, 5, 1), np.uint8), scale=0.01).shape == (1, 1, 1)


@pytest.mark.parametrize("seed", range(4))
def test_distance_agrees_with_one_pixel_after_another(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (4, 5))  # touching, in pieces, on the border
    labels = (np.kron(coarse, np.ones((4, 4), int)) * (1 + seed)).astype(np.int32)
    labels[rng.random(labels.shape) < 0.1] = 0
    np.testing.assert_allclose(instance_distance(labels), oracle.instance_distance(labels), atol=1e-6)


def test_distance_by_hand():
    labels = np.zeros((5, 7), np.int32)
    labels[1:4, 0:3] = 4  # on the left border, which is no rim
    labels[1:4, 3:6] = 9  # touches it
    half = 0.5
    expected = np.zeros((5, 7))
    expected[1:4, 0:3] = [[half, half, half], [1, 1, half], [half, half, half]]
    expected[1:4, 3:6] = [[half, half, half], [half, 1, half], [half, half, half]]
    np.testing.assert_allclose(instance_distance(labels), expected)


def test_distance_of_one_instance_that_is_the_image_and_of_none():
    np.testing.assert_array_equal(instance_distance(np.full((3, 4), 2, np.int32)), np.ones((3, 4)))
    np.testing.assert_array_equal(instance_distance(np.zeros((3, 4), np.int32)), np.zeros((3, 4)))


def record():
    labels = np.zeros((12, 16), np.int32)
    labels[2:8, 2:8] = 1
    labels[4:9, 9:15] = 2
    semantic = np.where(labels == 2, IGNORE, labels)
    truth = Segmentation.from_labels(labels, classes=[1, 2], semantic=semantic)
    return Record("img3", "g", np.arange(12 * 16 * 3, dtype=np.uint16).reshape(12, 16, 3) % 97, truth)


def test_an_example_has_the_types_and_shapes_that_training_expects():
    example = preprocess_example(record(), num_classes=3, scale=0.5)
    shapes = {name: (array.shape, array.dtype) for name, array in example.items()}
    assert shapes == {
        "image": ((6, 8, 3), np.float32),
        "labels": ((6, 8), np.int32),
        "semantic": ((6, 8), np.int32),
        "distance": ((6, 8), np.float32),
    }
    assert set(np.unique(example["semantic"])) == {IGNORE, 0, 1}
    assert [example["distance"][example["labels"] == index].max() for index in (1, 2)] == [1, 1]
    np.testing.assert_array_equal(example["image"], preprocess_image(record().image, scale=0.5))


def test_a_class_without_a_name_is_refused_by_the_name_of_the_record():
    with pytest.raises(InputError, match="img3 has class 2, but the data set has the classes 0 to 1: name"):
        preprocess_example(record(), num_classes=2)
    painted = np.full((12, 16), 7, np.int32)
    truth = dataclasses.replace(record().truth, semantic=painted)
    with pytest.raises(InputError, match="img3 has class 7"):
        preprocess_example(dataclasses.replace(record(), truth=truth), num_classes=3)


def test_impossible_settings_are_named():
    for scale in (0, -1, 17, float("nan")):
        with pytest.raises(InputError, match="scale is"):
            preprocess_image(np.zeros((4, 4, 1), np.uint8), scale=scale)
    for percentiles in ((99.0, 1.0), (-1.0, 50.0), (0.0, 101.0)):
        with pytest.raises(InputError, match="percentiles is"):
            preprocess_image(np.zeros((4, 4, 1), np.uint8), percentiles=percentiles)
