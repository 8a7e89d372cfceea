import numpy as np
import pytest

from segjax.data.augmentation.preview import augmented
from segjax.data.records import Record
from segjax.errors import InputError
from segjax.segmentation import Segmentation

pytestmark = pytest.mark.usefixtures("quick_to_compile")


def record():
    rows, columns = np.mgrid[:48, :56]
    labels = (np.hypot(rows - 20, columns - 24) < 8).astype(np.int32)
    image = (300 + 40_000 * labels + 50 * (rows % 3))[..., None].astype(np.uint16)
    return Record("one", "one", image, Segmentation.from_labels(labels, classes=[2]))


def test_patches_of_a_16_bit_image_are_normalised_and_differ():
    settings = {"policy": ("rot90", "brightness"), "brightness": 0.1}
    patches = augmented(record(), settings, patch_size=32, count=3, margin=1.25, foreground_fraction=1.0)
    assert len(patches) == 3
    for one in patches:
        assert one.image.shape == (32, 32, 1)
        assert one.image.dtype == np.float32
        assert -0.2 < one.image.min() < one.image.max() < 1.2
        assert set(np.unique(one.labels)) == {0, 1}
        np.testing.assert_array_equal(one.semantic, 2 * one.labels)
    assert any((patches[0].image != one.image).any() for one in patches[1:])


def test_the_same_seed_shows_the_same_and_another_does_not():
    settings = {"policy": ("brightness",)}
    first, again, other = (
        augmented(record(), settings, patch_size=32, count=1, seed=seed)[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image != other.image).any()


def test_settings_that_are_wrong_are_named():
    with pytest.raises(InputError, match="has no operation 'turn'"):
        augmented(record(), {"policy": ("turn",)}, patch_size=32, count=1)
