import numpy as np
import pytest

from segjax.segmentation import Cutout, Segmentation, colour_ids, paint
from segjax.typing import IGNORE


def test_renumbers_ids_with_gaps_in_ascending_order():
    segmentation = Segmentation.from_labels(
        np.array([[0, 7], [300, 7]], np.uint16), classes=[2, 1], scores=[0.5, 1]
    )
    np.testing.assert_array_equal(segmentation.labels, [[0, 1], [2, 1]])
    np.testing.assert_array_equal(segmentation.semantic, [[0, 2], [1, 2]])
    assert segmentation.labels.dtype == segmentation.semantic.dtype == np.int32
    assert segmentation.num_instances == 2
    assert segmentation.shape == (2, 2)


def test_an_image_without_background_keeps_its_first_instance():
    segmentation = Segmentation.from_labels(np.array([[4, 4], [9, 9]]))
    np.testing.assert_array_equal(segmentation.labels, [[1, 1], [2, 2]])


def test_empty_has_no_instances():
    nothing = Segmentation.empty((3, 5))
    assert nothing.num_instances == 0
    assert nothing.shape == (3, 5)
    assert not nothing.semantic.any()


def test_colours_become_instances_and_transparent_pixels_background():
    picture = np.zeros((2, 3, 4), np.uint8)
    picture[0, 0] = (0, 0, 0, 255)  # opaque black is an instance
    picture[0, 1:] = (1, 2, 3, 255)
    picture[1, 0] = (1, 2, 3, 0)  # transparent is not
    np.testing.assert_array_equal(colour_ids(picture), [[1, 0x010203 + 1, 0x010203 + 1], [0, 0, 0]])


def test_without_alpha_black_is_background():
    picture = np.zeros((1, 2, 3), np.uint8)
    picture[0, 1] = 255
    np.testing.assert_array_equal(colour_ids(picture) > 0, [[False, True]])


def test_an_alpha_that_is_nowhere_transparent_says_nothing():
    picture = np.full((1, 2, 4), 255, np.uint8)
    picture[0, 0, :3] = 0
    np.testing.assert_array_equal(colour_ids(picture) > 0, [[False, True]])


def test_later_polygons_win_and_hidden_ones_leave_with_their_class():
    square = np.array([[1, 1], [3, 1], [3, 3], [1, 3]])
    far = square + 4
    segmentation = Segmentation.from_polygons([square, square, far], (9, 9), classes=[1, 2, 3])
    assert segmentation.classes.tolist() == [2, 3]
    assert (segmentation.labels == 1).sum() == 9
    assert segmentation.labels[2, 2] == 1


def test_of_masks_the_smaller_is_on_top():
    small, large = np.zeros((6, 6), bool), np.ones((6, 6), bool)
    small[2, 2] = True
    for masks, expected in (([small, large], 1), ([large, small], 2)):
        assert Segmentation.from_masks(masks, (6, 6)).labels[2, 2] == expected
    nothing = np.zeros((6, 6), bool)
    segmentation = Segmentation.from_masks([small, nothing, small, large], (6, 6), classes=[1, 2, 3, 4])
    # Of two equal ones the first is covered whole, and leaves with its class.
    assert segmentation.classes.tolist() == [3, 4]
    assert segmentation.labels[2, 2] == 1
    assert (segmentation.labels == 2).sum() == 35
    assert Segmentation.from_masks([], (2, 3)).shape == (2, 3)


def test_a_cutout_is_where_its_mask_was():
    mask = np.zeros((5, 7), bool)
    mask[1, 2] = mask[3, 6] = True
    cutout = Cutout.of(mask, top=10, left=20)
    assert (cutout.top, cutout.left, cutout.mask.shape) == (11, 22, (3, 5))
    back = np.zeros((15, 27), bool)
    back[cutout.window] = cutout.mask
    np.testing.assert_array_equal(back[10:, 20:], mask)
    # Only the lower right pixel stays inside.
    assert cutout.moved(-13, -26, (4, 7))[:2] == (0, 0)
    assert cutout.moved(-13, -26, (4, 7)).mask.shape == (1, 1)
    assert cutout.moved(0, 0, (13, 27)).mask.shape == (1, 1)
    assert cutout.moved(99, 0, (13, 27)).mask.size == 0


def test_painted_in_order_the_later_one_is_on_top():
    small, large = Cutout(1, 1, np.ones((1, 1), bool)), Cutout(0, 0, np.ones((3, 3), bool))
    assert paint([small, large], (3, 3))[1, 1] == 1
    assert (paint([small, large], (3, 3), smaller_on_top=False) == 2).all()


def test_of_class_keeps_one_class_and_what_is_ignored():
    semantic = np.array([[1, 2, IGNORE, 0]])
    whole = Segmentation.from_labels(np.array([[1, 2, 0, 0]]), classes=[1, 2], semantic=semantic)
    only = whole.of_class(2)
    np.testing.assert_array_equal(only.labels, [[0, 1, 0, 0]])
    np.testing.assert_array_equal(only.semantic, [[0, 2, IGNORE, 0]])
    assert only.classes.tolist() == [2]


def test_the_class_map_and_the_boxes_are_those_of_the_instances():
    labels = np.zeros((6, 9), int)
    labels[1:4, 2:8], labels[3:5, 0:1], labels[5, 8] = 5, 9, 7
    segmentation = Segmentation.from_labels(labels, classes=[2, 1, 3], semantic=np.zeros((6, 9), int))
    np.testing.assert_array_equal(
        segmentation.class_map, np.select([labels == 5, labels == 9, labels == 7], [2, 3, 1])
    )
    assert segmentation.class_map.dtype == np.int32
    assert segmentation.boxes.tolist() == [[2, 1, 8, 4], [8, 5, 9, 6], [0, 3, 1, 5]]
    assert Segmentation.empty((3, 4)).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2)), "integers"),
        (np.zeros((2, 2, 3), int), "2-D"),
        (np.array([[-1, 0]]), "at least 0"),
    ],
)
def test_refuses_what_is_no_label_map(labels, message):
    with pytest.raises(ValueError, match=message):
        Segmentation.from_labels(labels)


def test_refuses_contradictions():
    good = {
        "labels": np.array([[0, 1]], np.int32),
        "classes": np.ones(1, np.int32),
        "scores": np.ones(1, np.float32),
        "semantic": np.array([[0, 1]], np.int32),
    }
    Segmentation(**good)
    for field, bad, message in [
        ("labels", np.array([[0, 2]], np.int32), "without gaps"),
        ("labels", np.array([[0, 1]], np.int64), "int32"),
        ("classes", np.zeros(1, np.int32), "at least 1"),
        ("scores", np.ones(2, np.float32), "2 scores"),
        ("semantic", np.zeros((3, 3), np.int32), "differ in shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            Segmentation(**(good | {field: bad}))
    with pytest.raises(ValueError, match="1 instances"):
        Segmentation.from_labels(np.array([[0, 1]]), classes=[1, 1])
    with pytest.raises(ValueError, match="colour"):
        colour_ids(np.zeros((2, 2), np.uint8))


def test_ids_may_have_gaps_of_any_size():
    small, large = np.array([[3, 0], [3, 9]], np.uint8), np.array([[2**40, 5], [2**40, 7]])
    for labels, expected in ((small, [[1, 0], [1, 2]]), (large, [[3, 1], [3, 2]])):
        assert Segmentation.from_labels(labels).labels.tolist() == expected
        assert Segmentation.from_labels(labels.astype(np.uint64)).labels.tolist() == expected
