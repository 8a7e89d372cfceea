import numpy as np
import pytest

from segjax.ops.anchors import cell_anchors, grid_anchors, pyramid_anchors


def test_cells_by_hand():
    # The square root of 1/2 is 0.707: 32 / 0.707 = 45.25 wide, 22.6 high, halved and rounded.
    np.testing.assert_array_equal(
        cell_anchors((32.0,), (0.5, 1.0, 2.0)), [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    )


def test_grid_is_row_by_row_with_the_anchors_of_a_place_together():
    cells = np.array([[-1, -1, 1, 1], [-2, -1, 2, 1]], np.float32)
    actual = grid_anchors(cells, shape=(2, 3), strides=(8, 4))
    assert actual.shape == (12, 4)
    np.testing.assert_array_equal(actual[:4], [[-1, -1, 1, 1], [-2, -1, 2, 1], [3, -1, 5, 1], [2, -1, 6, 1]])
    np.testing.assert_array_equal(actual[6], [-1, 7, 1, 9])


def test_strides_follow_from_the_shapes():
    one, two = pyramid_anchors([(8, 16), (2, 4)], image_shape=(32, 64), sizes=((4,), (16,)), ratios=(1.0,))
    np.testing.assert_array_equal(one[1], [2, -2, 6, 2])
    np.testing.assert_array_equal(two[1], [8, -8, 24, 8])


@pytest.mark.peers
def test_agrees_with_torchvision():
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    sizes, ratios = ((32, 40), (64, 80), (128, 190)), (0.5, 1.0, 2.0)
    shapes = [(24, 40), (12, 20), (6, 10)]
    images = ImageList(torch.zeros(1, 3, 96, 160), [(96, 160)])
    maps = [torch.zeros(1, 1, *shape) for shape in shapes]
    expected = AnchorGenerator(sizes, (ratios,) * 3)(images, maps)[0]
    actual = pyramid_anchors(shapes, image_shape=(96, 160), sizes=sizes, ratios=ratios)
    np.testing.assert_array_equal(np.concatenate(actual), expected)
