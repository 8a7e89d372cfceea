import jax
import numpy as np
import pytest

from segjax.ops import roi_masks
from segjax.ops.roi_masks import pairwise_mask_iou, paste_masks
from tests.oracles import roi as oracle

crop_masks = jax.jit(roi_masks.crop_masks, static_argnames=("bins", "aligned"))


def scene():
    labels = np.zeros((24, 30), np.int32)
    labels[2:12, 3:15] = 1
    labels[8:20, 14:28] = 2
    labels[0:3, 0:30] = 5
    return labels


BOXES = np.array(
    [[3, 2, 15, 12], [13.3, 7.2, 28.4, 20.1], [0, 0, 30, 3], [-5, -4, 6, 9], [4, 4, 4, 4]], np.float32
)
IDS = np.array([1, 2, 5, 1, 1])


def test_agrees_with_roi_align_of_one_binary_mask_at_a_time():
    labels = scene()
    expected = [
        oracle.roi_align(
            (labels == index).astype(float)[..., None], box, bins=4, scale=1, sampling_ratio=0, aligned=False
        )[..., 0]
        for index, box in zip(IDS, BOXES, strict=True)
    ]
    np.testing.assert_allclose(crop_masks(labels, IDS, BOXES, bins=4), expected, atol=1e-5)


def test_of_half_a_box_is_half_ones():
    labels = np.zeros((16, 16), np.int32)
    labels[:, :8] = 7
    actual = crop_masks(labels, np.array([7]), np.array([[0, 0, 16, 16.0]], np.float32), bins=4)
    np.testing.assert_allclose(actual[0, 1], [1, 1, 0, 0], atol=0.26)
    assert actual[0, 1, 0] == 1
    assert actual[0, 1, 3] == 0


def test_pasting_undoes_cropping():
    labels = scene()
    boxes = BOXES[:2]
    masks = crop_masks(labels, IDS[:2], boxes, bins=28, aligned=True)
    actual = paste_masks(masks, boxes, shape=labels.shape) >= 0.5
    for mask, index in zip(actual, IDS, strict=False):
        truth = labels == index
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9


def test_overlap_of_masks_by_hand():
    # A full square, its left half, and a square elsewhere: 1/2, and nothing.
    masks = np.ones((3, 4, 4), np.float32)
    boxes = np.array([[0, 0, 16, 16], [0, 0, 8, 16], [20, 20, 30, 30]], np.float32)
    for stride in (1, 2):
        actual = pairwise_mask_iou(masks, boxes, shape=(32, 32), stride=stride)
        np.testing.assert_allclose(actual, [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]], atol=1e-6)


def test_the_threshold_decides_which_pixels_overlap():
    masks = np.full((2, 4, 4), 0.4, np.float32)
    boxes = np.array([[0, 0, 16, 16], [0, 0, 8, 16]], np.float32)
    for threshold, expected in ((0.5, 0), (0.4, 0.5), (0.0, 0.5)):
        actual = pairwise_mask_iou(masks, boxes, shape=(32, 32), threshold=threshold)
        assert actual[0, 1] == pytest.approx(expected)


def test_empty_masks_do_not_overlap():
    assert not pairwise_mask_iou(np.zeros((2, 4, 4)), np.zeros((2, 4)), shape=(8, 8)).any()


@pytest.mark.peers
def test_agrees_with_torchvision():
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    heads = pytest.importorskip("torchvision.models.detection.roi_heads", reason="no peers extra")
    labels = scene()
    stack = torch.tensor(np.stack([(labels == index) for index in (1, 2, 5)]).astype(np.float32))
    which = torch.tensor([0, 1, 2, 0, 0])
    expected = heads.project_masks_on_boxes(stack, torch.tensor(BOXES), which, 28)
    np.testing.assert_allclose(crop_masks(labels, IDS, BOXES, bins=28), expected, atol=1e-5)
