import jax
import numpy as np
import pytest
from skimage.segmentation import find_boundaries

from segjax.ops.masks import boundaries, near_two_instances
from tests.oracles import masks as oracle


def patchwork(seed, shape=(14, 17)):
    """Touching blocks of instances and background."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 5, (4, 4)).astype(np.int32)
    return np.kron(blocks, np.ones((5, 5), np.int32))[: shape[0], : shape[1]]


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("connectivity", [1, 2])
def test_boundaries_agree_with_one_pixel_at_a_time(connectivity, width):
    labels = patchwork(width)
    expected = oracle.boundaries(labels, connectivity=connectivity, width=width)
    assert 0 < expected.sum() < (labels > 0).sum()
    np.testing.assert_array_equal(boundaries(labels, connectivity=connectivity, width=width), expected)


@pytest.mark.parametrize("connectivity", [1, 2])
def test_boundaries_of_width_one_are_scikit_images_inner_boundaries(connectivity):
    labels = patchwork(7)
    expected = find_boundaries(labels, connectivity=connectivity, mode="inner")
    np.testing.assert_array_equal(boundaries(labels, connectivity=connectivity), expected)


def test_two_cells_that_touch_have_a_boundary_but_the_edge_of_the_image_is_none():
    labels = np.array([[1, 1, 1, 2, 2], [1, 1, 1, 2, 2], [1, 1, 1, 2, 2]], np.int32)
    np.testing.assert_array_equal(boundaries(labels), [[False, False, True, True, False]] * 3)
    np.testing.assert_array_equal(boundaries(labels * 0), labels * 0 == 1)


@pytest.mark.parametrize("radius", [1, 2, 4])
def test_near_two_instances_agrees_with_one_pixel_at_a_time(radius):
    labels = patchwork(radius)
    expected = oracle.near_two_instances(labels, radius=radius)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(near_two_instances(labels, radius=radius), expected)


def test_near_two_instances_marks_the_gap_between_two_cells_and_not_the_far_side():
    labels = np.array([[1, 1, 0, 0, 2, 2, 0, 0]], np.int32)
    np.testing.assert_array_equal(near_two_instances(labels, radius=2)[0], [0, 0, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(near_two_instances(labels, radius=1)[0], np.zeros(8))


def test_a_batch_by_vmap_is_its_images_one_by_one():
    batch = np.stack([patchwork(seed) for seed in range(3)])
    for function in (boundaries, near_two_instances):
        np.testing.assert_array_equal(jax.vmap(function)(batch), [function(labels) for labels in batch])
