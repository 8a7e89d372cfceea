import io

import numpy as np
import pytest
import tifffile

from segjax.data.records import Record
from segjax.datasets.store.codec import decode, decode_tiff, encode, encode_tiff, features
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE


def through_disk(record):
    """What comes back from the bytes that TFDS writes."""
    feature = features()
    return decode(
        feature.deserialize_example_np(feature.serialize_example(feature.encode_example(encode(record))))
    )


def assert_same(first, second):
    assert (first.name, first.group, first.pixel_size) == (second.name, second.group, second.pixel_size)
    for one, other in [(first.image, second.image)] + [
        (getattr(first.truth, name), getattr(second.truth, name))
        for name in ("labels", "classes", "scores", "semantic")
    ]:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    "shape", [(9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 5), (1, 6, 4), (6, 1, 3), (1, 1, 1)]
)
def test_every_type_and_number_of_channels_comes_back_bit_for_bit(dtype, shape):
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 60_000 if dtype != np.uint8 else 255, shape).astype(dtype)
    truth = Segmentation.from_labels(rng.integers(0, 3, shape[:2]))
    record = Record("zellhaufen é", "patient/7", image, truth, pixel_size=0.1 + 0.2)
    assert_same(record, through_disk(record))


def test_seventy_thousand_instances_come_back():
    labels = np.arange(280 * 280).reshape(280, 280)
    classes = 1 + np.arange(280 * 280 - 1) % 3
    truth = Segmentation.from_labels(labels, classes=classes, scores=np.linspace(0, 1, len(classes)))
    record = Record("dense", "g", np.zeros((280, 280, 1), np.uint8), truth)
    assert truth.num_instances > 70_000
    assert_same(record, through_disk(record))


def test_a_semantic_map_of_its_own_is_kept_and_a_redundant_one_is_not_stored():
    labels = np.array([[0, 1], [2, 0]])
    image = np.zeros((2, 2, 1), np.uint8)
    plain = Record("a", "g", image, Segmentation.from_labels(labels, classes=[2, 1]))
    own = Segmentation.from_labels(labels, classes=[2, 1], semantic=np.array([[IGNORE, 2], [1, 3]]))
    assert encode(plain)["semantic"] == b""
    assert_same(plain, through_disk(plain))
    assert_same(Record("b", "g", image, own), through_disk(Record("b", "g", image, own)))


def test_an_image_without_instances_comes_back():
    record = Record("empty", "g", np.ones((3, 4, 1), np.uint16), Segmentation.empty((3, 4)))
    assert_same(record, through_disk(record))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_tifffile_reads_what_is_stored_and_what_it_stores_otherwise_is_read(dtype, channels):
    pixels = np.random.default_rng(0).integers(0, 200, (7, 9, channels)).astype(dtype)
    stored = encode_tiff(pixels)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(stored)).reshape(pixels.shape), pixels)
    for options in ({"compression": "zlib"}, {"compression": "zstd", "rowsperstrip": 2}, {"byteorder": ">"}):
        file = io.BytesIO()
        tifffile.imwrite(
            file,
            pixels if channels > 1 else pixels[..., 0],
            planarconfig="contig" if channels > 1 else None,
            photometric="minisblack",
            metadata=None,
            **options,
        )
        np.testing.assert_array_equal(decode_tiff(file.getvalue()), pixels)
    assert decode_tiff(stored).dtype == dtype
