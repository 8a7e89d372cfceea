"""What is not a number, or infinite, harms nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.losses.combine import mean_where
from segjax.ops.boxes import pairwise_iou
from segjax.ops.detection import DetectConfig, Proposals, ProposeConfig, detect, propose
from segjax.ops.matching import match
from segjax.ops.nms import nms
from segjax.ops.roi_align import pyramid_roi_align, roi_align
from segjax.ops.roi_masks import crop_masks, pairwise_mask_iou, paste_masks
from segjax.ops.roi_pool import roi_pool

pytestmark = pytest.mark.usefixtures("quick_to_compile")
RNG = np.random.default_rng(0)

BOXES = np.array([[2, 3, 12, 14], [0, 0, 6, 5], [8, 4, 15, 15], [3, 3, 9, 12]], np.float32)
DAMAGED = {
    "one NaN": [3, np.nan, 9, 12],
    "all NaN": [np.nan] * 4,
    "infinite": [-np.inf, 0, np.inf, 9],
    "one infinite": [3, 3, np.inf, 12],
    "overflowing": [-3e38, -3e38, 3e38, 3e38],
}
MAPS = RNG.standard_normal((16, 16, 2)).astype(np.float32)
POOLS = {
    "align": lambda maps, boxes: roi_align(maps, boxes, bins=3),
    "align, aligned": lambda maps, boxes: roi_align(maps, boxes, bins=3, aligned=True),
    "align, adaptive": lambda maps, boxes: roi_align(maps, boxes, bins=3, sampling_ratio=0),
    "align, pyramid": lambda maps, boxes: pyramid_roi_align(
        [maps, maps[::2, ::2]], boxes, bins=3, scales=[0.25, 0.125], canonical_size=16
    ),
    "pool": lambda maps, boxes: roi_pool(maps, boxes, bins=3),
}


@pytest.mark.parametrize("name", POOLS)
def test_a_damaged_box_does_not_change_the_gradient_of_others(name):
    def loss(maps, boxes, counts):
        values = POOLS[name](maps, boxes)
        return (values**2).sum((1, 2, 3)) @ counts, values

    gradient = jax.jit(jax.grad(loss, has_aux=True))
    expected, values = gradient(MAPS, BOXES, np.array([1.0, 1, 1, 0]))
    for damage, box in DAMAGED.items():
        if (name, damage) == ("align, adaptive", "overflowing"):
            continue  # as many samples as pixels take too long
        boxes = np.array([*BOXES[:3], box], np.float32)
        # A very large box covers the map.
        result, pooled = gradient(MAPS, boxes, np.array([1.0, 1, 1, damage != "overflowing"]))
        np.testing.assert_array_equal(pooled[:3], values[:3], err_msg=damage)
        assert np.isfinite(pooled).all(), damage
        assert damage == "overflowing" or (pooled[3] == 0).all(), damage
        np.testing.assert_allclose(result, expected, rtol=1e-6, err_msg=damage)


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_box_does_not_change_masks(damage):
    labels = np.kron(np.arange(4).reshape(2, 2), np.ones((8, 8), int)).astype(np.int32)
    boxes, ids = BOXES.copy(), np.array([1, 2, 3, 3])
    boxes[3] = DAMAGED[damage if damage != "overflowing" else "one NaN"]
    cropped, expected = (crop_masks(labels, ids, part, bins=4) for part in (boxes, BOXES))
    np.testing.assert_array_equal(cropped[:3], expected[:3])
    np.testing.assert_array_equal(cropped[3], 0)
    pasted = paste_masks(np.ones((4, 4, 4), np.float32), boxes, shape=(16, 16))
    assert np.isfinite(pasted).all()
    iou = pairwise_mask_iou(np.ones((4, 4, 4), np.float32), boxes, shape=(16, 16))
    assert np.isfinite(iou).all()


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_box_is_neither_selected_nor_matched(damage):
    boxes, scores, valid = BOXES.copy(), np.array([0.5, 0.6, 0.7, 0.9], np.float32), np.ones(4, bool)
    boxes[3] = DAMAGED[damage]
    if damage != "overflowing":  # finite: a very large box
        assert nms(boxes, scores, valid, iou_threshold=0.3).tolist() == [True, True, True, False]
        assert match(boxes, BOXES[:3], valid[:3], high=0.5, low=0.5).state.tolist() == [1, 1, 1, -1]
    assert np.isfinite(pairwise_iou(jnp.asarray(boxes), jnp.asarray(boxes))).all()


@pytest.mark.parametrize("position", range(4))
def test_a_score_that_is_no_number_is_never_ranked_first(position):
    scores = np.array([0.5, 0.6, 0.7, 0.9], np.float32)
    scores[position] = np.nan
    others = [index for index in range(4) if index != position]
    valid = np.ones(4, bool)
    assert np.flatnonzero(nms(BOXES, scores, valid, iou_threshold=0.9)).tolist() == others

    config = ProposeConfig(pre_nms=3, post_nms=4, iou_threshold=0.9)
    proposals = propose([scores], [np.zeros((4, 4), np.float32)], [BOXES], size=(16, 16), config=config)
    assert proposals.valid.tolist() == [True, True, True, False]
    np.testing.assert_allclose(proposals.boxes[:3], BOXES[others[::-1]], rtol=1e-6)
    assert np.isfinite(proposals.scores).all()

    probabilities = np.stack([1 - scores, scores], -1)
    proposals = Proposals(BOXES, np.zeros(4, np.float32), valid)
    detections = detect(
        probabilities,
        np.zeros((4, 2, 4), np.float32),
        proposals,
        size=(16, 16),
        config=DetectConfig(candidates=3, max_detections=4, iou_threshold=0.9),
    )
    assert detections.valid.tolist() == [True, True, True, False]
    np.testing.assert_allclose(detections.scores[:3], scores[others[::-1]])
    assert detections.dropped == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_deltas_that_are_no_numbers_make_no_box(value):
    scores, deltas = np.array([0.5, 0.6, 0.7, 0.9], np.float32), np.zeros((4, 4), np.float32)
    deltas[3, 0] = value
    proposals = propose([scores], [deltas], [BOXES], size=(16, 16), config=ProposeConfig(post_nms=4))
    np.testing.assert_allclose(proposals.boxes, [*BOXES[2::-1], [0, 0, 0, 0]], rtol=1e-6)
    assert proposals.valid.tolist() == [True, True, True, False]


def test_masked_values_do_not_count_even_if_they_are_no_numbers():
    values = np.array([1.0, np.nan, np.inf, 3.0], np.float32)
    np.testing.assert_allclose(mean_where(values, np.array([True, False, False, True])), 2.0)
