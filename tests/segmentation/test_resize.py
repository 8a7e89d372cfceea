import numpy as np
import pytest

from segjax.segmentation import Segmentation
from segjax.segmentation.resize import resize_segmentation
from segjax.typing import IGNORE


def disc(shape, centre, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y + 0.5 - centre[0]) ** 2 + (x + 0.5 - centre[1]) ** 2 < radius**2


@pytest.mark.parametrize("factor", [0.5, 2, 3])
def test_centres_and_areas_scale_with_the_image(factor):
    labels = 1 * disc((40, 60), (14, 15), 8) + 2 * disc((40, 60), (24, 42), 10)
    small = Segmentation.from_labels(labels, classes=[2, 1], scores=[0.25, 0.75])
    shape = (round(40 * factor), round(60 * factor))
    large = resize_segmentation(small, shape)
    assert large.shape == shape
    assert large.classes.tolist() == [2, 1]
    assert large.scores.tolist() == [0.25, 0.75]
    for index in (1, 2):
        before, after = np.argwhere(labels == index) + 0.5, np.argwhere(large.labels == index) + 0.5
        assert len(after) == pytest.approx(factor**2 * len(before), rel=0.1)
        np.testing.assert_allclose(after.mean(0), factor * before.mean(0), atol=0.25)


def test_outlines_are_smoother_than_nearest_neighbours():
    labels = disc((32, 32), (16, 16), 10).astype(int)
    large = resize_segmentation(Segmentation.from_labels(labels), (128, 128)).labels
    truth = disc((128, 128), (64, 64), 40)
    blocks = labels.repeat(4, 0).repeat(4, 1)
    assert ((large > 0) != truth).sum() < 0.9 * ((blocks > 0) != truth).sum()


def test_touching_instances_keep_their_border():
    labels = np.zeros((8, 8), int)
    labels[:, :4], labels[:, 4:] = 1, 2
    large = resize_segmentation(Segmentation.from_labels(labels), (16, 16)).labels
    np.testing.assert_array_equal(large, labels.repeat(2, 0).repeat(2, 1))


def test_an_instance_without_a_pixel_is_dropped_with_its_class():
    labels = np.zeros((20, 20), int)
    labels[2:10, 2:10], labels[17, 17] = 1, 2
    small = resize_segmentation(Segmentation.from_labels(labels, classes=[1, 2]), (5, 5))
    assert small.classes.tolist() == [1]


def test_ignored_pixels_stay_ignored():
    labels = np.zeros((6, 6), int)
    labels[:3] = 1
    semantic = np.where(labels, 1, 0)
    semantic[:, 4:] = IGNORE
    segmentation = Segmentation.from_labels(labels, semantic=semantic)
    large = resize_segmentation(segmentation, (12, 12)).semantic
    np.testing.assert_array_equal(large, semantic.repeat(2, 0).repeat(2, 1))


def test_the_same_size_changes_nothing():
    segmentation = Segmentation.from_labels(np.eye(4, dtype=int))
    assert resize_segmentation(segmentation, (4, 4)) is segmentation
