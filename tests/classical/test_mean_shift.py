import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from segjax.classical import make_method
from segjax.classical.mean_shift import merge_modes
from segjax.classical.settings import MeanShift
from segjax.errors import InputError
from tests.classical.cells import COUNT, FIELD, fluorescence

IMAGE = fluorescence(FIELD)


def mean_shift(image, **settings):
    return make_method("mean_shift", **settings).stages(image)


@pytest.mark.parametrize("distance", [0.5, 2.5, 8.0])
def test_modes_are_merged_as_by_single_linkage(distance):
    modes = np.round(np.random.default_rng(0).uniform(0, 40, (80, 2)), 1)
    clusters = merge_modes(modes, distance=distance)
    expected = fcluster(linkage(modes, "single"), distance, "distance")
    np.testing.assert_array_equal(clusters[:, None] == clusters[None], expected[:, None] == expected[None])
    assert merge_modes(np.zeros((0, 2)), distance=1.0).shape == (0,)


def test_a_wide_kernel_merges_what_touches():
    assert mean_shift(IMAGE, bandwidth=2.0).segmentation.num_instances == COUNT
    assert mean_shift(IMAGE, bandwidth=40.0, merge=30.0).segmentation.num_instances == 4


def test_no_cell_goes_beyond_its_part():
    stages = mean_shift(IMAGE, bandwidth=60.0, merge=100.0)
    assert stages.segmentation.num_instances == 4
    np.testing.assert_array_equal(stages.segmentation.labels > 0, stages.foreground)


def test_seeds_are_where_the_pixels_end():
    stages = mean_shift(IMAGE)
    labels = stages.segmentation.labels
    inside = labels[tuple(np.round(stages.seeds).astype(int).T)]
    assert sorted(inside.tolist()) == list(range(1, COUNT + 1))


def test_position_and_brightness_together_find_the_cells():
    stages = mean_shift(IMAGE, space="colour")
    assert stages.segmentation.num_instances == COUNT
    assert (stages.foreground & FIELD).sum() / (stages.foreground | FIELD).sum() > 0.75
    group = stages.features["group"]
    assert stages.features["contrast"][group == group.max()].mean() > 0.5
    for shape in ((1, 1, 1), (32, 32, 1)):
        assert mean_shift(np.ones(shape), space="colour").segmentation.num_instances == 0


def test_says_what_makes_no_sense():
    with pytest.raises(InputError, match="grid, colour"):
        MeanShift(space="time")
    with pytest.raises(InputError, match="above 0"):
        MeanShift(bandwidth=0.0)
