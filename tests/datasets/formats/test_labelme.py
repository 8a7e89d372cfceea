import base64
import json
import re

import numpy as np
import pytest
from PIL import Image

from segjax.datasets.formats import open_annotations
from segjax.errors import InputError
from tests.datasets.formats.faults import fault
from tests.datasets.formats.written import png

SHAPE = (20, 30)
TRIANGLE = [[2, 2], [8, 2], [2, 8]]


def shape_of(points, kind="polygon", label="nucleus", **fields):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **fields}


def opened(tmp_path, *shapes, class_names=None, **fields):
    document = {"shapes": list(shapes), "imagePath": "a.png", "imageHeight": 20, "imageWidth": 30, **fields}
    (tmp_path / "a.json").write_text(json.dumps(document))
    return open_annotations(tmp_path, format="labelme", class_names=class_names)


def read(tmp_path, *shapes, **fields):
    return opened(tmp_path, *shapes, **fields).read("a", SHAPE)


def test_the_pixels_under_the_line_belong_to_the_shape(tmp_path):
    labels = read(tmp_path, shape_of(TRIANGLE)).labels
    assert [(labels[row] > 0).sum() for row in range(2, 9)] == [7, 6, 5, 4, 3, 2, 1]
    labels = read(tmp_path, shape_of([[8, 6], [3, 2]], "rectangle")).labels
    np.testing.assert_array_equal(np.argwhere(labels)[[0, -1]], [[2, 3], [6, 8]])
    assert (labels > 0).sum() == 5 * 6


def test_a_circle_is_given_by_its_centre_and_a_point_on_it(tmp_path):
    labels = read(tmp_path, shape_of([[15, 10], [15, 5]], "circle")).labels
    np.testing.assert_array_equal(np.flatnonzero(labels[10]), np.arange(10, 21))
    np.testing.assert_array_equal(np.flatnonzero(labels[:, 15]), np.arange(5, 16))
    assert (labels > 0).sum() == pytest.approx(np.pi * 5.5**2, rel=0.06)
    # What leaves the image is cut off.
    assert (read(tmp_path, shape_of([[1, 10], [1, 5]], "circle")).labels[10, :7] > 0).all()


def test_a_mask_lies_between_its_first_and_last_pixel(tmp_path):
    mask = np.array([[1, 0, 1], [0, 1, 0]], np.uint8)
    encoded = base64.b64encode(png(mask)).decode()
    labels = read(tmp_path, shape_of([[4, 7], [6, 8]], "mask", mask=encoded)).labels
    np.testing.assert_array_equal(labels[7:9, 4:7], mask)
    assert labels.sum() == 3


def test_a_group_is_one_instance_and_what_is_drawn_later_lies_on_top(tmp_path):
    drawing = read(
        tmp_path,
        shape_of([[20, 10], [22, 12]], "rectangle", group_id=1),
        shape_of([[2, 2], [4, 4]], "rectangle", group_id=1),
        shape_of([[21, 11], [23, 13]], "rectangle", "debris", group_id=1),
        shape_of([[24, 15], [25, 16]], "rectangle"),
        shape_of([[24, 15], [26, 16]], "rectangle"),
    )
    assert drawing.labels[2, 2] == drawing.labels[10, 20] == 1
    assert drawing.labels[11, 21] == 2
    assert drawing.classes == {1: 2, 2: 1, 4: 2}
    assert drawing.num_hidden == 1


def test_what_is_to_be_ignored_is_no_instance(tmp_path):
    annotations = opened(
        tmp_path,
        shape_of([[2, 2], [4, 4]], "rectangle", "__ignore__"),
        shape_of([[4, 4], [5, 5]], "rectangle"),
        shape_of([[5, 5], [6, 6]], "rectangle", "__ignore__"),
    )
    assert annotations.class_names == ("background", "nucleus")
    drawing = annotations.read("a", SHAPE)
    assert (drawing.labels > 0).sum() == 3
    assert drawing.ignore.sum() == 8 + 4
    assert drawing.num_hidden == 0


def test_labels_are_held_against_the_given_classes(tmp_path):
    annotations = opened(tmp_path, shape_of(TRIANGLE, label="b"), shape_of(TRIANGLE, label="a"))
    assert annotations.class_names == ("background", "a", "b")
    with pytest.raises(InputError, match=r"a\.json: shapes\[0\]: label is 'b'; the classes are a, c"):
        read(tmp_path, shape_of(TRIANGLE, label="b"), class_names=("background", "a", "c"))


@pytest.mark.parametrize("path", ["a.png", "../images/a.tif", "C:\\data\\a.png", "..\\a.png"])
def test_only_the_name_of_the_image_counts(tmp_path, path):
    read(tmp_path, shape_of(TRIANGLE), imagePath=path, imageData="not looked at")


@pytest.mark.parametrize(
    ("shape", "fields", "message"),
    [
        (shape_of([[2, 2], [8, 2]]), {}, r"shapes\[0\]: points has 2 points, which make no polygon"),
        (shape_of(TRIANGLE, "rectangle"), {}, "points has 3 points, which make no rectangle"),
        (shape_of(TRIANGLE, "line"), {}, "shape_type is 'line', which covers no area"),
        (shape_of([[2, 2], [8, 2], [2, float("nan")]]), {}, "points holds NaN"),
        (shape_of([[2, 2], [8, 2], [2, 1e9]]), {}, r"points has \(2, 1e\+09\), outside the image of 20 x 30"),
        (shape_of([[2, 2], [8, 2], [-3, 8]]), {}, r"points has \(-3, 8\), outside"),
        (shape_of([[2, 2], [8, 2], 3]), {}, "points is not a list of points"),
        (shape_of("abc"), {}, "points is not a list of points"),
        (shape_of([[2, 2], [8, 2], ["2", 8]]), {}, "points is not a list of numbers"),
        (shape_of([[1, 1], [29, 19]], "circle"), {}, "a circle of radius 33.2866, larger"),
        (shape_of([[4, 7], [6, 8]], "mask"), {}, "mask is missing"),
        (shape_of([[4, 7], [6, 8]], "mask", mask="x"), {}, "mask cannot be read"),
        (
            shape_of(
                [[4, 7], [6, 9]], "mask", mask=base64.b64encode(png(np.eye(2, 3, dtype=np.uint8))).decode()
            ),
            {},
            r"mask has the size \(3, 2\)",
        ),
        (shape_of(TRIANGLE, group_id="x"), {}, "group_id is 'x', not an integer"),
        (shape_of(TRIANGLE), {"imageHeight": 21}, r"a\.json is 21 x 30 pixels but its image 20 x 30"),
        (shape_of(TRIANGLE), {"imageHeight": None}, "imageHeight is None"),
        (shape_of(TRIANGLE), {"imagePath": "b.png"}, "imagePath is 'b.png', another image"),
        (3, {}, r"shapes\[0\]: points is not a list of points"),
    ],
)
def test_a_broken_shape_is_named(tmp_path, shape, fields, message):
    said = fault(read, tmp_path, shape, class_names=("background", "nucleus"), **fields)
    assert re.search(message, said)
    assert "a.json" in said
    assert "\n" not in said


def test_a_bomb_in_a_mask_is_not_decoded(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    encoded = base64.b64encode((tmp_path / "bomb.png").read_bytes()).decode()
    said = fault(read, tmp_path, shape_of([[4, 7], [6, 8]], "mask", mask=encoded))
    assert re.search(r"mask has the size|mask cannot be read", said)
