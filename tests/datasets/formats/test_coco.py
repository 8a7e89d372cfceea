import copy
import json
import re

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segjax.datasets.checks.annotation import check_annotation
from segjax.datasets.checks.collection import check_pairs
from segjax.datasets.formats import open_annotations
from segjax.errors import InputError
from tests.datasets.formats.faults import fault

SHAPE = (9, 12)
SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]
GOOD = {
    "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 12}],
    "categories": [{"id": 5, "name": "nucleus"}],
    "annotations": [{"id": 7, "image_id": 1, "category_id": 5, "segmentation": [SQUARE], "iscrowd": 0}],
}


def opened(tmp_path, document, **options):
    path = tmp_path / "instances.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return open_annotations(path, **options)


def changed(where, name, value):
    document = copy.deepcopy(GOOD)
    document[where][0][name] = value
    return document


def with_segmentation(*segmentations, **fields):
    document = copy.deepcopy(GOOD)
    document["annotations"] = [
        {"id": 7 + index, "image_id": 1, "category_id": 5, "segmentation": segmentation, **fields}
        for index, segmentation in enumerate(segmentations)
    ]
    return document


def test_a_square_along_pixel_edges(tmp_path):
    drawing = opened(tmp_path, GOOD).read("a", SHAPE)
    expected = np.zeros(SHAPE, int)
    expected[2:6, 2:6] = 1
    np.testing.assert_array_equal(drawing.labels, expected)
    assert drawing.classes == {1: 1}


# pycocotools 2.0.11 with NumPy 2.4, when it decodes.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_are_what_pycocotools_makes_of_them(tmp_path):
    rng = np.random.default_rng(0)
    shape = (60, 70)
    document = copy.deepcopy(GOOD)
    document["images"][0] |= {"height": 60, "width": 70}
    for _ in range(60):
        vertices = rng.integers(3, 25)
        angles = np.sort(rng.uniform(0, 2 * np.pi, vertices))
        radii, centre = rng.uniform(3, 25, vertices), rng.uniform(0, 70, 2)
        points = np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], axis=1)
        # Some leave the image by less than a pixel.
        polygon = np.clip(points, -0.9, [70.9, 60.9]).round(2).ravel().tolist()
        document["annotations"][0]["segmentation"] = [polygon]
        ours = opened(tmp_path, document).read("a", shape).labels > 0
        theirs = coco_mask.decode(coco_mask.frPyObjects([polygon], *shape))[..., 0] > 0
        np.testing.assert_array_equal(ours, theirs)


def test_several_polygons_are_one_instance_and_a_crowd_is_ignored(tmp_path):
    document = with_segmentation([SQUARE, [8, 2, 10, 2, 10, 4, 8, 4]])
    runs = {"size": list(SHAPE), "counts": [0, 9, 99]}
    document["annotations"].append(
        {"id": 9, "image_id": 1, "category_id": 5, "segmentation": runs, "iscrowd": 1}
    )
    document["annotations"][0]["iscrowd"] = False
    drawing = opened(tmp_path, document).read("a", SHAPE)
    assert drawing.labels.max() == 1
    assert (drawing.labels == 1).sum() == 20
    np.testing.assert_array_equal(np.argwhere(drawing.ignore), [[row, 0] for row in range(9)])
    assert drawing.num_hidden == 0


def test_crowds_are_counted_and_can_be_cells(tmp_path):
    document = with_segmentation([SQUARE], [[8, 2, 10, 2, 10, 4, 8, 4]])
    for annotation in document["annotations"]:
        annotation["iscrowd"] = 1
    ignored = opened(tmp_path, document).read("a", SHAPE)
    assert (ignored.num_crowds, ignored.labels.max()) == (2, 0)
    truth, findings = check_annotation(ignored, SHAPE, num_classes=2)
    assert truth.num_instances == 0
    assert findings == [("only_crowds", "2 annotations with iscrowd=1")]
    cells = opened(tmp_path, document, crowds_are_cells=True).read("a", SHAPE)
    assert (cells.num_crowds, cells.labels.max()) == (0, 2)
    assert cells.ignore is None


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "is missing or empty"),
        ([[1, 2, 3, 4]], "has a polygon of 4 numbers"),
        ([[30, 2, 34, 2, 34, 6]], "outside the image"),
        ({"size": [9, 12], "counts": [107]}, "add up to 108"),
    ],
)
def test_one_invalid_annotation_of_many_is_left_out(tmp_path, segmentation, message):
    squares = [[[x, y, x + 2, y, x + 2, y + 2, x, y + 2]] for x in (1, 5, 9) for y in (1, 5)]
    document = with_segmentation(*squares, segmentation)
    drawing = opened(tmp_path, document).read("a", SHAPE)
    assert drawing.labels.max() == 6
    assert len(drawing.invalid) == 1
    assert message in drawing.invalid[0]
    assert "invalid_outlines" in dict(check_annotation(drawing, SHAPE, num_classes=2)[1])


@pytest.mark.parametrize(
    "file_name",
    [
        "images/a.png",
        "images\\a.png",
        "C:\\data\\images\\a.png",
        "/home/me/images/a.png",
        "../images/a.png",
        "./a.png",
        "https://server.org/data/images/a.png?token=3",
        "/data/local-files/?d=images/a.png",
        "/data/local-files/?d=my%20data%2Fimages%2Fa.png",
        "s3://bucket/images/a.png",
    ],
)
def test_images_are_matched_by_the_end_of_their_path(tmp_path, file_name):
    annotations = opened(
        tmp_path, changed("images", "file_name", file_name), images={"a": tmp_path / "a.png"}
    )
    assert annotations.keys == {"a"}
    assert annotations.read("a", SHAPE).labels.max() == 1


# Names of images in a COCO file, and the image in the folder that each is.
NAMES = {
    "another folder": ({"images/a.png": "plate/a", "images/b.png": "plate/b"}),
    "uploaded to Label Studio": ({"/data/upload/3/0a1b2c3d-a.png": "plate/a"}),
    "a URL": ({"https://server.org/my%20data/a.png": "plate/a"}),
    "images as Label Studio exports them": ({"0a1b2c3d-a.png": "0a1b2c3d-a", "a.png": "a"}),
    "two images": ({"images/a.png": None}),
}


@pytest.mark.parametrize("name", NAMES)
def test_images_in_other_folders_are_matched_by_a_unique_name(tmp_path, name, caplog):
    document = changed("images", "file_name", "a.png")
    document["images"] = [
        document["images"][0] | {"id": number, "file_name": file_name}
        for number, file_name in enumerate(NAMES[name], 1)
    ]
    expected = {key for key in NAMES[name].values() if key is not None}
    keys = expected or {"plate 1/a", "plate 2/a"}
    annotations = opened(tmp_path, document, images={key: tmp_path / f"{key}.png" for key in keys})
    assert annotations.keys & keys == expected
    assert ("matched by their name alone" in caplog.text) == any("/" in key for key in expected)
    if expected:
        first = next(iter(NAMES[name].values()))
        assert annotations.read(first, SHAPE).labels.max() == 1


def test_annotations_of_no_image_are_left_out_and_named(tmp_path):
    document = with_segmentation([SQUARE], [[8, 2, 10, 2, 10, 4, 8, 4]])
    document["annotations"][1]["image_id"] = 77
    annotations = opened(tmp_path, document, images={"a": tmp_path / "a.png"})
    assert annotations.read("a", SHAPE).labels.max() == 1
    assert check_pairs({"a"}, annotations.keys) == {
        "image_id 77": (("missing_image", "no image is called image_id 77"),)
    }


def test_run_lengths_are_what_pycocotools_makes_of_them(tmp_path):
    rng = np.random.default_rng(0)
    for share in (0, 0.02, 0.5, 0.98, 1):
        mask = rng.random(SHAPE) < share
        runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        runs["counts"] = runs["counts"].decode()
        drawing = opened(tmp_path, with_segmentation(runs)).read("a", SHAPE)
        np.testing.assert_array_equal(drawing.labels > 0, mask)
        assert drawing.num_hidden == (share == 0)
    # Empty runs in between are unusual and right.
    drawing = opened(tmp_path, with_segmentation({"size": [9, 12], "counts": [3, 2, 0, 0, 0, 1, 102]}))
    assert np.flatnonzero(drawing.read("a", SHAPE).labels[:, 0]).tolist() == [3, 4, 5]


def test_categories_become_classes_by_their_id_or_by_the_given_names(tmp_path):
    document = with_segmentation([SQUARE], [[8, 2, 10, 2, 10, 4, 8, 4]])
    document["categories"] = [
        {"id": 9, "name": "debris"},
        {"id": 0, "name": "_background_"},
        {"id": 5, "name": "nucleus"},
    ]
    document["annotations"][0]["category_id"] = 9
    annotations = opened(tmp_path, document)
    assert annotations.class_names == ("background", "nucleus", "debris")
    assert annotations.read("a", SHAPE).classes == {1: 2, 2: 1}
    class_names = ("background", "debris", "nucleus")
    assert opened(tmp_path, document, class_names=class_names).read("a", SHAPE).classes == {1: 1, 2: 2}
    with pytest.raises(
        InputError, match=r"annotation 7: the category 9 is 'debris'; the classes are nucleus"
    ):
        opened(tmp_path, document, class_names=("background", "nucleus")).read("a", SHAPE)


def test_the_smaller_is_on_top_and_the_hidden_counted(tmp_path):
    small = [3, 3, 4, 3, 4, 4, 3, 4]
    drawing = opened(tmp_path, with_segmentation([small], [SQUARE], [SQUARE])).read("a", SHAPE)
    assert drawing.labels[3, 3] == 1
    assert (drawing.labels == 3).sum() == 15
    assert drawing.num_hidden == 1
    assert set(drawing.classes) == {1, 3}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[1", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"images": [], "annotations": []}', "categories is missing"),
        ({"images": 3, "annotations": [], "categories": []}, "images is 3, not a list"),
        (changed("images", "id", None), r"images\[0\]: id is None, not an integer"),
        (changed("images", "file_name", "/"), r"image 1: file_name '/' names no file"),
        (changed("images", "file_name", ""), "names no file"),
        ({**GOOD, "images": GOOD["images"] * 2}, r"image 1: id is used twice"),
        (changed("annotations", "image_id", True), "image_id is True, not an integer"),
        (changed("categories", "name", 3), "category 5: name is 3, not a string"),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_refused_at_once(tmp_path, document, message):
    with pytest.raises(InputError, match=rf"instances\.json.*{message}"):
        opened(tmp_path, document, format="coco")


@pytest.mark.parametrize(
    ("where", "name", "value", "message"),
    [
        ("images", "height", 10, "image 1 is 10 x 12 pixels but its image 9 x 12"),
        ("images", "height", float("nan"), "image 1: height is nan, not an integer"),
        ("images", "width", -12, "image 1 is 9 x -12"),
        ("annotations", "category_id", 6, "annotation 7: category_id is 6, which no category has"),
        ("annotations", "category_id", None, "annotation 7: category_id is None"),
        ("annotations", "segmentation", None, "annotation 7: segmentation is missing or empty"),
        ("annotations", "segmentation", [], "annotation 7: segmentation is missing or empty"),
        ("annotations", "segmentation", ["x"], "segmentation is not a list of numbers"),
        ("annotations", "segmentation", [[1, 2, 3, 4]], "has a polygon of 4 numbers"),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5, 6, 7]], "has a polygon of 7 numbers"),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5, float("nan")]], "7: segmentation holds NaN"),
        (
            "annotations",
            "segmentation",
            [[1, 2, 3, 4, 5, float("inf")]],
            "7: segmentation holds NaN or an inf",
        ),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5, 10**400]], "a number too large"),
        (
            "annotations",
            "segmentation",
            [[1, 2, 3, 4, 5, 1e30]],
            r"has \(5, 1e\+30\), outside the image of 9 x",
        ),
        ("annotations", "segmentation", [[1, 2, 3, 4, -5, 6]], r"has \(-5, 6\), outside the image"),
        ("annotations", "segmentation", [[1, 2, 3, 4, True, 6]], "is not a list of numbers"),
        ("annotations", "segmentation", {"counts": [108]}, "annotation 7: segmentation: size is missing"),
        (
            "annotations",
            "segmentation",
            {"size": [12, 9], "counts": [108]},
            r"size is \[12, 9\], but the image's",
        ),
        ("annotations", "segmentation", {"size": [9, 12], "counts": [107]}, "add up to 108"),
        ("annotations", "segmentation", {"size": [9, 12], "counts": [-1, 109]}, "add up to 108"),
        ("annotations", "segmentation", {"size": [9, 12], "counts": [0.5, 107.5]}, "add up to 108"),
        ("annotations", "segmentation", {"size": [9, 12], "counts": "0"}, "add up to 108"),
        ("annotations", "segmentation", {"size": [9, 12], "counts": "P"}, "end in the middle"),
        ("annotations", "segmentation", {"size": [9, 12], "counts": "ooooooooo"}, "are not compressed"),
        ("annotations", "segmentation", {"size": [9, 12], "counts": "\u20ac"}, "are not compressed"),
        ("annotations", "segmentation", {"size": [9, 12]}, "is not a list of numbers"),
        ("annotations", "iscrowd", "no", "annotation 7: iscrowd is 'no'"),
    ],
)
def test_a_broken_entry_is_named_when_its_image_is_read(tmp_path, where, name, value, message):
    annotations = opened(tmp_path, changed(where, name, value), format="coco")
    said = fault(annotations.read, "a", SHAPE)
    assert re.search(rf"instances\.json: .*{message}|instances\.json: {message}", said)
    assert "\n" not in said


def test_a_file_too_large_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "instances.json"
    with path.open("wb") as file:
        file.truncate(2**29 + 1)
    with pytest.raises(InputError, match=r"instances\.json has 536870913 bytes"):
        open_annotations(path, format="coco")


def test_of_several_files_one_must_be_named(tmp_path):
    for name in ("train.json", "val.json"):
        (tmp_path / name).write_text(json.dumps(GOOD))
    with pytest.raises(InputError, match="holds 2 JSON files"):
        open_annotations(tmp_path)


def test_categories_of_one_id_are_refused(tmp_path):
    document = GOOD | {"categories": [{"id": 5, "name": "nucleus"}, {"id": 5, "name": "debris"}]}
    with pytest.raises(InputError, match="category 5: id is used twice"):
        opened(tmp_path, document)


@pytest.mark.parametrize(
    ("file_name", "key"),
    [
        ("s3://bucket/a%20b#1+2.png", "bucket/a b#1+2"),
        ("/data/local-files/?d=x/a#1+2.png", "x/a#1+2"),
        ("/data/local-files/?d=x/a%231.png", "x/a#1"),
        ("https://server.org/x/a+b.png?size=1#top", "x/a+b"),
        ("x/a#1.png", "x/a#1"),
    ],
)
def test_only_addresses_of_the_web_have_fragments(tmp_path, file_name, key):
    (found,) = opened(tmp_path, changed("images", "file_name", file_name)).keys
    assert found == key.removeprefix("bucket/")


def test_a_number_of_hundreds_of_digits_is_named(tmp_path):
    said = fault(
        lambda value: opened(tmp_path, changed("annotations", "score", value)).read("a", SHAPE), 10**400
    )
    assert "annotation 7: score is 1000" in said
    assert "not a number" in said
