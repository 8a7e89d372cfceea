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


@pytest.mark.parametrize(("width", "with_ignored"), [(1, False), (2, False), (3, False), (1, True)])
def test_boundaries_agree_with_one_pixel_at_a_time(width, with_ignored):
    labels = patchwork(width)
    ignored = np.zeros(labels.shape, bool)
    if with_ignored:
        ignored[:, :6] = ignored[9:12, 11:] = True
        labels[ignored] = 0
    expected = oracle.boundaries(labels, ignored, width=width)
    assert 0 < expected.sum() < (labels > 0).sum()
    np.testing.assert_array_equal(boundaries(labels, width=width, ignored=ignored), expected)
    if not with_ignored:
        np.testing.assert_array_equal(boundaries(labels, width=width), expected)


def test_boundaries_of_width_one_are_scikit_images_inner_boundaries():
    labels = patchwork(7)
    expected = find_boundaries(labels, connectivity=2, mode="inner")
    np.testing.assert_array_equal(boundaries(labels), expected)


def test_a_cell_that_the_image_border_cuts_has_no_boundary_there():
    """A window reaches beyond the image: its first row is ignored."""
    labels = np.array([[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]], np.int32)
    expected = np.array([[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0]], bool)
    ignored = np.repeat([[True], [False], [False], [False]], 4, axis=1)
    np.testing.assert_array_equal(boundaries(labels, ignored=ignored), expected)
    assert boundaries(labels)[1].sum() == 3


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
