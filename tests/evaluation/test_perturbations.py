import dataclasses

import numpy as np
import pytest

from segjax.data.records import Record
from segjax.evaluation.perturbations import PERTURBATIONS, PerturbedSource, perturb
from segjax.segmentation import Segmentation


def record(channels=1, dtype=np.uint16):
    y, x = np.mgrid[:40, :60]
    labels = 1 * ((y - 12) ** 2 + (x - 14) ** 2 < 64) + 2 * ((y - 26) ** 2 + (x - 44) ** 2 < 100)
    image = (1000 + 20_000 * (labels > 0)).astype(dtype)[..., None].repeat(channels, -1)
    return Record("cells", "patient", image, Segmentation.from_labels(labels, classes=[2, 1]))


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_truth_follows_the_pixels(name, channels):
    before, after = record(channels), perturb(record(channels), name)
    assert after.image.shape == (*after.truth.shape, channels)
    assert after.truth.classes.tolist() == [2, 1]
    image = after.image[..., 0].astype(float)
    inside, outside = image[after.truth.labels > 0].mean(), image[after.truth.labels == 0].mean()
    assert (inside < outside) == (name == "inversion")
    assert abs(inside - outside) > 5000
    if name != "clean":
        assert after.image.dtype == np.float32
        assert after.image.shape != before.image.shape or (after.image != before.image).any()


def test_the_values_of_simple_changes():
    image = record().image.astype(np.float32)
    inverted = perturb(record(), "inversion").image
    np.testing.assert_allclose(inverted, 22_000 - image, rtol=1e-4)
    turned = perturb(record(), "quarter_turn")
    np.testing.assert_array_equal(turned.image, np.rot90(image))
    np.testing.assert_array_equal(turned.truth.labels, np.rot90(record().truth.labels))
    assert perturb(record(), "half_size").image.shape == (20, 30, 1)
    assert perturb(record(), "double_size").image.shape == (80, 120, 1)
    noise = perturb(record(), "noise").image - image
    assert noise.std() == pytest.approx(2000, rel=0.1)


def test_compression_keeps_each_channel():
    image = np.zeros((1, 40, 2), np.float32)
    image[:, :20, 0] = image[:, 20:, 1] = 1000
    truth = Segmentation.empty(image.shape[:2])
    changed = perturb(dataclasses.replace(record(), image=image, truth=truth), "jpeg").image
    for channel, (left, right) in enumerate([(1000, 0), (0, 1000)]):
        assert changed[:, :20, channel].mean() == pytest.approx(left, abs=150)
        assert changed[:, 20:, channel].mean() == pytest.approx(right, abs=150)


def test_noise_depends_on_seed_and_name_only():
    first, again = perturb(record(), "poisson"), perturb(record(), "poisson")
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image != perturb(record(), "poisson", seed=1).image).any()
    renamed = dataclasses.replace(record(), name="other cells")
    assert (first.image != perturb(renamed, "poisson").image).any()
    moved = dataclasses.replace(record(), group="other patient")
    np.testing.assert_array_equal(first.image, perturb(moved, "poisson").image)


def test_a_source_is_perturbed_record_by_record():
    class Source:
        class_names = ("background", "a", "b")

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return record()

    perturbed = PerturbedSource(Source(), "blur")
    assert len(perturbed) == 1
    assert perturbed.class_names == Source.class_names
    np.testing.assert_array_equal(perturbed[0].image, perturb(record(), "blur").image)
