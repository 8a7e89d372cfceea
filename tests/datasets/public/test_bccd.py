import numpy as np
import pytest

from segjax.datasets.public.bccd import fill_boxes, read_boxes
from segjax.errors import InputError
from tests.datasets.public import tree

SHAPE = (30, 40)
LISTED = {"train": ["Blood_0", "Blood_1"], "validation": ["Blood_2"], "test": ["Blood_3"]}


def xml(*objects):
    inside = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1 in objects
    )
    return f"<annotation>{inside}</annotation>".encode()


OBJECTS = (
    ("Platelets", 11, 11, 13, 13),
    ("RBC", 1, 1, 20, 16),
    ("WBC", 25, 5, 40, 30),
    ("RBC", 9, 9, 9, 9),
)


def put(data_dir, form="zip", **changes):
    home = "BCCD_Dataset-master/BCCD"
    members = {
        f"{home}/ImageSets/Main/{name}.txt": "\n".join(LISTED[split]).encode()
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    for index in range(4):
        members[f"{home}/JPEGImages/Blood_{index}.jpg"] = tree.jpg(tree.colours(index, SHAPE))
        members[f"{home}/Annotations/Blood_{index}.xml"] = xml(*OBJECTS)
    selected = {key: changes.get(key.split("/")[-1], content) for key, content in members.items()}
    tree.put(data_dir, "BCCD_Dataset-master.zip", {k: v for k, v in selected.items() if v is not None}, form)


@pytest.mark.parametrize("form", tree.FORMS)
def test_the_official_splits_and_the_classes_of_boxes(tmp_path, form):
    put(tmp_path, form)
    splits = tree.read("bccd", tmp_path)
    assert {split: sorted(r.name for r in records) for split, records in splits.items()} == LISTED
    record = splits["test"][0]
    assert record.group == "bccd/Blood_3"
    assert record.image.shape == (*SHAPE, 3)
    # In the order of the file, without the box that has no extent.
    assert record.truth.classes.tolist() == [3, 1, 2]


def test_each_ellipse_fits_its_box_and_the_smaller_is_on_top(tmp_path):
    (tmp_path / "x.xml").write_bytes(xml(*OBJECTS))
    boxes, classes = read_boxes(tmp_path / "x.xml")
    assert boxes.tolist() == [list(splits[1:]) for splits in OBJECTS[:3]]
    truth = fill_boxes(boxes, classes, SHAPE)
    # The platelet's box is whole inside the red cell's: its ellipse is what is left of 3 x 3 pixels.
    rows, columns = np.nonzero(truth.labels == 1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 12, 10, 12)
    assert len(rows) == 9
    for index, (_, left, top, right, bottom) in enumerate(OBJECTS[:3], start=1):
        y, x = np.mgrid[1 : SHAPE[0] + 1, 1 : SHAPE[1] + 1]
        inside = ((x - (left + right) / 2) / ((right - left + 1) / 2)) ** 2
        inside = inside + ((y - (top + bottom) / 2) / ((bottom - top + 1) / 2)) ** 2 < 1
        on_top = (truth.labels == 1) & (index != 1)
        np.testing.assert_array_equal(truth.labels == index, inside & ~on_top)


def test_a_box_beyond_the_image_is_cut_off():
    truth = fill_boxes(np.array([[-9, -9, 10, 10], [100, 100, 110, 110]]), np.array([1, 2], np.int32), SHAPE)
    assert truth.classes.tolist() == [1]
    assert truth.labels[0, 0] == 1


def test_a_picture_without_boxes_is_empty(tmp_path):
    (tmp_path / "x.xml").write_bytes(xml())
    assert fill_boxes(*read_boxes(tmp_path / "x.xml"), SHAPE).num_instances == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Blood_1.xml": None}, r"holds no .*Annotations/Blood_1\.xml"),
        ({"Blood_2.jpg": None}, r"holds no .*JPEGImages/Blood_2\.jpg"),
        ({"Blood_2.jpg": b"damaged"}, r"Blood_2\.jpg cannot be read"),
        ({"val.txt": None}, r"holds no ImageSets/Main/val\.txt"),
        (
            {"Blood_0.xml": xml(("Yeast", 1, 2, 3, 4))},
            r"Blood_0\.xml has an object 'Yeast'; .* RBC, WBC, Platelets",
        ),
        (
            {"Blood_0.xml": xml(("RBC", 1, 2, "", 4))},
            r"Blood_0\.xml has a box without xmin, ymin, xmax, ymax",
        ),
    ],
)
def test_an_archive_that_is_not_whole(tmp_path, changes, message):
    put(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        list(tree.stream("bccd", tmp_path))


def test_without_network_the_message_says_what_to_put_where(tmp_path):
    with pytest.raises(InputError, match=r"put BCCD_Dataset-master\.zip, .* into .*/manual$"):
        list(tree.stream("bccd", tmp_path))
