import json

import numpy as np
import pytest

from segjax.datasets.public.livecell import well_of
from segjax.errors import InputError
from tests.datasets.public import tree

SHAPE = (12, 16)
NAMES = {
    "train": ["A172_Phase_C7_1_00d00h00m_1.tif", "BV2_Phase_A4_2_00d12h00m_3.tif"],
    "val": ["SkBr3_Phase_E3_1_02d00h00m_4.tif"],
    "test": ["A172_Phase_A7_1_00d00h00m_1.tif"],
}


def box(left, top, right, bottom):
    """A polygon along the edges of pixels, as COCO has them."""
    return [left, top, right, top, right, bottom, left, bottom]


# One of two pieces, one inside the other, one outside the image, one without area.
OUTLINES = [
    [box(1, 1, 6, 6), box(8, 1, 10, 3)],
    [box(2, 2, 4, 4)],
    [box(-9, -9, -2, -2)],
    [[3.0, 3.0, 5.0, 5.0]],
]
LABELS = np.zeros(SHAPE, np.int32)
LABELS[1:6, 1:6] = LABELS[1:3, 8:10] = 1
LABELS[2:4, 2:4] = 2


def coco(names, outlines=OUTLINES, **changes):
    images = [
        {"id": 10 + index, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
        for index, name in enumerate(names)
    ]
    annotations = [
        {"id": 1, "image_id": image["id"], "segmentation": outline, "iscrowd": 0}
        for image in images
        for outline in outlines
    ]
    return json.dumps({"images": images, "annotations": annotations} | changes).encode()


def put(data_dir, form="zip", **changes):
    images = {}
    for part, names in NAMES.items():
        folder = "livecell_test_images" if part == "test" else "livecell_train_val_images"
        for name in names:
            images[f"images/{folder}/{name.split('_')[0]}/{name}"] = tree.tif(
                tree.colours(len(name), SHAPE)[..., 0]
            )
    selected = {
        key: content for key, content in images.items() if key.split("/")[-1] != changes.get("missing")
    }
    tree.put(data_dir, "livecell/images.zip", selected, form)
    for part, names in NAMES.items():
        path = data_dir / "downloads" / "manual" / "livecell" / f"livecell_coco_{part}.json"
        path.write_bytes(changes.get(part, coco(names)))


@pytest.mark.parametrize("form", tree.FORMS)
def test_outlines_become_cells_and_wells_groups(tmp_path, form):
    put(tmp_path, form)
    splits = tree.read("livecell", tmp_path)
    assert sorted((r.name, r.group) for r in splits["train"]) == [
        ("A172_Phase_C7_1_00d00h00m_1", "livecell/A172_C7"),
        ("BV2_Phase_A4_2_00d12h00m_3", "livecell/BV2_A4"),
    ]
    assert [r.group for r in splits["validation"]] == ["livecell/SkBr3_E3"]
    assert [r.group for r in splits["test"]] == ["livecell/A172_A7"]
    for records in splits.values():
        for record in records:
            np.testing.assert_array_equal(record.truth.labels, LABELS)
            np.testing.assert_array_equal(
                record.image[..., 0], tree.colours(len(record.name) + 4, SHAPE)[..., 0]
            )


def labels_of(data_dir, outlines):
    """The label map of an image with these outlines."""
    put(data_dir, test=coco(NAMES["test"], outlines))
    return tree.read("livecell", data_dir)["test"][0].truth.labels


def test_a_cell_beyond_the_border_is_cut_off(tmp_path):
    labels = labels_of(tmp_path, [[box(-1e10, -1e10, 3, 2)], [box(13, 10, 1e10, 1e10)]])
    expected = np.zeros(SHAPE, np.int32)
    expected[:2, :3], expected[10:, 13:] = 1, 2
    np.testing.assert_array_equal(labels, expected)


def test_the_well_is_in_the_name():
    assert well_of("SHSY5Y_Phase_B10_1_00d00h00m_2.tif") == "SHSY5Y_B10"
    assert well_of("image.tif") is None


def test_runs_of_pixels_are_read_as_polygons_are(tmp_path):
    whole = np.zeros(SHAPE, np.int32)
    whole[1:6, 1:6] = whole[1:3, 8:10] = 1
    # Down the columns, in turn off and on.
    runs = {"size": list(SHAPE), "counts": [13, 5, 7, 5, 7, 5, 7, 5, 7, 5, 31, 2, 10, 2, 81]}
    np.testing.assert_array_equal(labels_of(tmp_path, [runs]), whole)


@pytest.mark.parametrize(
    "outline",
    [
        [[1.0, 2.0, 3.0]],
        [[1.0, 2.0, float("inf"), 2.0, 1.0, 1.0]],
        [["a", "b", "c", "d", "e", "f"]],
        {"size": [99, 99], "counts": [1]},
        {"size": list(SHAPE), "counts": [10**6, 10**6]},
        {"size": list(SHAPE), "counts": [3, 1]},
        {"size": list(SHAPE), "counts": [-1, 193]},
        {"size": list(SHAPE), "counts": "~~~~~~"},
        "outline",
        None,
    ],
)
def test_invalid_outlines_name_the_annotation(tmp_path, outline):
    put(tmp_path, val=coco(NAMES["val"], [outline]))
    with pytest.raises(InputError, match=r"livecell_coco_val\.json: annotation 1: segmentation"):
        list(tree.stream("livecell", tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"missing": NAMES["test"][0]}, r"images\.zip holds no image 'A172_Phase_A7"),
        ({"val": b"{"}, r"livecell_coco_val\.json is not JSON"),
        ({"val": b"[" * 100_000}, r"livecell_coco_val\.json is not JSON"),
        ({"val": b"[1]"}, r"livecell_coco_val\.json is not a JSON object"),
        ({"val": coco(NAMES["val"], images=[])}, r"no image 'image_id 10' that .* lists"),
        ({"val": coco(["../evil.tif"])}, r"holds no image '\.\./evil\.tif'"),
        (
            {"val": coco(NAMES["val"]).replace(b'"height": 12', b'"height": 13')},
            r"livecell_coco_val\.json is \(13, 16\), but its image is \(12, 16\)",
        ),
    ],
)
def test_a_set_that_is_not_whole(tmp_path, changes, message):
    put(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        list(tree.stream("livecell", tmp_path))


def test_what_is_missing_names_the_file_and_the_licence(tmp_path):
    put(tmp_path)
    (tmp_path / "downloads" / "manual" / "livecell" / "livecell_coco_test.json").unlink()
    with pytest.raises(
        InputError, match=r"livecell_coco_test\.json, whose licence is CC BY-NC 4\.0 .*livecell$"
    ):
        list(tree.stream("livecell", tmp_path))
