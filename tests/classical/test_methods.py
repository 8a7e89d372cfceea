"""What is asked of every classical method."""

import numpy as np
import pytest

from segjax.classical import METHODS, make_method
from segjax.errors import InputError
from tests.classical.cells import COUNT, FIELD, fluorescence

IMAGE = fluorescence(FIELD)
NAMES = sorted(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_finds_the_cells(name):
    stages = make_method(name).stages(IMAGE)
    segmentation = stages.segmentation
    assert segmentation.num_instances == COUNT
    mask = segmentation.labels > 0
    assert (mask & FIELD).sum() / (mask | FIELD).sum() > 0.75
    assert stages.foreground.shape == FIELD.shape
    assert stages.seeds.shape == (len(stages.seeds), 2)
    assert all(values.shape == FIELD.shape for values in stages.features.values())
    np.testing.assert_array_equal(make_method(name)(IMAGE).labels, segmentation.labels)


@pytest.mark.parametrize("name", NAMES)
def test_dark_cells_are_found_as_well(name):
    assert make_method(name)(4000 - IMAGE).num_instances == COUNT
    assert make_method(name, bright=False)(4000 - IMAGE).num_instances == COUNT


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (32, 32, 1), (16, 1, 3)])
def test_without_contrast_nothing_is_found(name, shape):
    assert make_method(name)(np.full(shape, 7.5, np.float32)).num_instances == 0


@pytest.mark.parametrize("name", NAMES)
def test_noise_and_extremes_end_in_some_segmentation(name):
    rng = np.random.default_rng(0)
    images = [
        rng.normal(size=(60, 60, 1)),
        np.pad(np.zeros((1, 1, 1)), ((0, 59), (0, 59), (0, 0)), constant_values=1),  # all but one pixel
        np.pad(np.ones((3, 3, 1)), ((30, 27), (30, 27), (0, 0))),  # one spot
        rng.uniform(size=(2, 60, 3)),
    ]
    for image in images:
        assert make_method(name)(image.astype(np.float32)).shape == image.shape[:2]


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_used_is_said(name):
    with pytest.raises(InputError, match="NaN or infinite: replace them"):
        make_method(name)(np.full((8, 8, 1), np.nan))


@pytest.mark.parametrize("name", NAMES)
def test_small_ones_can_be_left_out(name):
    assert make_method(name, min_area=10**5)(IMAGE).num_instances == 0


def test_names_the_methods_and_their_settings():
    with pytest.raises(InputError, match=r"method='magic' is unknown: choose one of naive, .*watershed"):
        make_method("magic")
    with pytest.raises(InputError, match=r"no parameter 'depth': it has diameter, gamma, .*small_class"):
        make_method("watershed", depth=3)
