import numpy as np
import pytest

from segjax.segmentation import paste_masks as module
from segjax.segmentation.masks import Cutout, paint_best_first


def paste_masks(boxes, masks, shape, *, threshold=0.5):
    """[H, W] int32, i + 1 where box i is on top."""
    return paint_best_first(module.paste_masks(boxes, masks, shape, threshold=threshold), shape)


def test_a_full_mask_fills_its_box_and_the_first_wins():
    boxes = np.array([[2, 3, 8, 7], [6, 1, 12, 9]], np.float32)
    pasted = paste_masks(boxes, np.ones((2, 28, 28), np.float32), (12, 14))
    expected = np.zeros((12, 14), int)
    expected[1:9, 6:12] = 2
    expected[3:7, 2:8] = 1
    np.testing.assert_array_equal(pasted, expected)


@pytest.mark.parametrize(("max_overlap", "expected"), [(1.0, [1, 2, 4]), (0.7, [1, 3, 4]), (0.3, [1, 4])])
def test_what_contains_or_repeats_a_better_one_is_left_out(max_overlap, expected):
    def square(left, side):
        return Cutout(0, left, np.ones((4, side), bool))

    # The second contains the first, the third shares half of its pixels with the first, the fourth none.
    cutouts = [square(4, 4), square(2, 8), square(6, 4), square(20, 4)]
    labels = paint_best_first(cutouts, (4, 30), max_overlap=max_overlap)
    assert np.unique(labels[labels > 0]).tolist() == expected
    assert (labels[:, 4:8] == 1).all()
    # What is left out hides nothing.
    assert (labels[:, 8:10] == (2 if 2 in expected else 3 if 3 in expected else 0)).all()


def test_of_many_instances_those_are_left_out_that_share_too_much_with_one_better():
    rng = np.random.default_rng(0)
    cutouts = [Cutout(*rng.integers(0, 50, 2), rng.random(rng.integers(3, 10, 2)) < 0.8) for _ in range(200)]
    visible, areas = np.zeros((60, 60), int), {}
    for number, cutout in enumerate(cutouts, start=1):
        full = np.zeros((60, 60), bool)
        full[cutout.window] = cutout.mask
        areas[number] = full.sum()
        better = [other for other in np.unique(visible[full]) if other]
        shared = [(full & (visible == other)).sum() for other in better]
        if all(
            one <= 0.3 * min(areas[number], areas[other]) for one, other in zip(shared, better, strict=True)
        ):
            visible[full & (visible == 0)] = number
    np.testing.assert_array_equal(paint_best_first(cutouts, (60, 60), max_overlap=0.3), visible)
    assert 40 < len(np.unique(visible)) < 180


def test_many_overlapping_masks_are_pasted_as_one_by_one():
    rng = np.random.default_rng(0)
    corners = rng.uniform(-5, 30, (30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 15, (30, 2))], axis=1)
    masks = rng.random((30, 8, 8))
    expected = np.zeros((30, 32), int)
    for index in reversed(range(30)):
        alone = paste_masks(boxes[index : index + 1], masks[index : index + 1], (30, 32)) == 1
        expected[alone] = index + 1
    np.testing.assert_array_equal(paste_masks(boxes, masks, (30, 32)), expected)
    assert len(np.unique(expected)) > 15


def test_without_masks_the_ellipse_of_the_box():
    pasted = paste_masks(np.array([[0, 0, 20, 10]]), None, (10, 20))
    assert pasted.sum() == pytest.approx(np.pi * 10 * 5, rel=0.03)
    np.testing.assert_array_equal(pasted, pasted[::-1, ::-1])
    assert pasted[0, 0] == 0


def test_half_a_mask_is_cut_where_it_is_half():
    mask = np.zeros((1, 28, 28), np.float32)
    mask[:, :, :14] = 1
    pasted = paste_masks(np.array([[10.0, 0, 66, 56]]), mask, (56, 80))
    assert pasted[28].nonzero()[0].tolist() == list(range(10, 38))


def test_nothing_outside_of_the_image_and_nothing_at_all():
    boxes = np.array([[-30, -30, -10, -10], [100, 100, 120, 120], [4, 4, 4, 4]])
    assert not paste_masks(boxes, np.ones((3, 4, 4)), (20, 20)).any()
    assert not paste_masks(np.zeros((0, 4)), np.zeros((0, 4, 4)), (20, 20)).any()


def rounded(box: np.ndarray, size: int) -> np.ndarray:
    """The box [1, 4] that, grown by one pixel of a mask of `size`, has the integer edges of torchvision."""

    def grown(box, factor):
        centre, half = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]) / 2 * factor
        return np.concatenate([centre - half, centre + half], axis=1)

    edges = np.trunc(grown(box, (size + 2) / size)) + np.array([0, 0, 1, 1], np.float32)
    return grown(edges, size / (size + 2))


@pytest.mark.peers
def test_agrees_with_torchvision():
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    heads = pytest.importorskip("torchvision.models.detection.roi_heads", reason="no peers extra")
    rng = np.random.default_rng(0)
    for _ in range(30):
        corner, side = rng.uniform(-2, 50, 2), rng.uniform(4, 40, 2)  # torchvision fails outside
        box = np.concatenate([corner, corner + side]).astype(np.float32)[None]
        mask = rng.random((1, 28, 28)).astype(np.float32)
        expected = heads.paste_masks_in_image(torch.tensor(mask)[:, None], torch.tensor(box), (60, 64))
        expected = expected[0, 0].numpy()
        pasted = paste_masks(rounded(box, 28), mask, (60, 64)) == 1
        differs = pasted != (expected >= 0.5)
        assert np.abs(expected[differs] - 0.5).max(initial=0) < 1e-4
