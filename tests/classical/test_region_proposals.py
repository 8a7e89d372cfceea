import numpy as np
import pytest
from skimage.measure import label, regionprops

from segjax.classical.region_proposals import PROPOSALS, selective_search, watershed_proposals
from segjax.errors import InputError
from segjax.ops.boxes import pairwise_iou
from tests.classical.cells import FIELD, discs, fluorescence

# Cells apart from each other: what touches is for the watershed's tests.
APART = discs((120, 128), (24, 24, 11), (30, 90, 12), (90, 20, 12), (92, 60, 10), (60, 64, 5))


def boxes_of(labels):
    corners = [region.bbox for region in regionprops(labels)]
    return np.array([(left, top, right, bottom) for top, left, bottom, right in corners], np.float32)


@pytest.mark.parametrize("method", PROPOSALS)
def test_finds_cells_among_what_it_proposes(method):
    pytest.importorskip("cv2", reason="the proposals extra is not installed")
    truth = label(APART)
    boxes = PROPOSALS[method](fluorescence(APART))
    assert boxes.dtype == np.float32
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    best = np.asarray(pairwise_iou(boxes_of(truth), boxes)).max(1)
    assert (best >= 0.5).mean() >= 0.8


def test_a_constant_image_has_nothing_to_propose():
    assert watershed_proposals(np.full((40, 50, 1), 7, np.uint8)).shape == (0, 4)


def test_leaves_out_what_is_too_small_or_too_large():
    image = fluorescence(FIELD)
    boxes = watershed_proposals(image, min_side=6, max_fraction=0.05)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 6
    assert sides.prod(1).max() <= 0.05 * image.shape[0] * image.shape[1]


def test_without_opencv_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(InputError, match=r"segjax\[proposals\].*config.proposals.method=watershed"):
        selective_search(np.zeros((20, 20, 1), np.uint8))
