"""Every format gives back the pixels that were written."""

import pickle

import numpy as np
import pytest
from scipy import ndimage

from segjax.datasets.formats import FORMATS as ALL
from segjax.datasets.formats import open_annotations
from tests.datasets.formats.written import WITH_CLASSES, cells, write_dataset

# A class map holds no ids; tests/situations/test_masks.py covers it.
FORMATS = [name for name in ALL if name != "classes"]

CLASS_NAMES = ("background", "nucleus", "micronucleus", "debris")
DRAWN = {
    "a": cells(0, num_classes=4),
    "plate 1/b.c": cells(1, (40, 97), num_classes=4),
    "plate 1/deep/d": cells(2, (73, 30), num_classes=4),
    "plate 2/b.c": cells(3, num_classes=4),
    "empty": (np.zeros((20, 30), np.int32), {}),
}


def same_up_to_numbers(one, other):
    pairs = np.unique(np.stack([one, other]).reshape(2, -1), axis=1)
    return (
        len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
        and ((one > 0) == (other > 0)).all()
    )


def painted(labels, classes):
    table = np.zeros(labels.max(initial=0) + 1, int)
    for index in np.unique(labels[labels > 0]).tolist():
        table[index] = classes.get(index, 1)
    return table[labels]


def test_the_cells_are_worth_reading():
    touching = holes = 0
    for labels, classes in list(DRAWN.values())[:-1]:
        assert len(classes) >= 8
        assert set(classes.values()) == {1, 2, 3}
        across = (labels[:, 1:] != labels[:, :-1]) & (labels[:, 1:] > 0) & (labels[:, :-1] > 0)
        touching += across.sum()
        holes += sum(
            ndimage.binary_fill_holes(labels == index).sum() > (labels == index).sum() for index in classes
        )
    assert touching > 20
    assert holes >= 4


@pytest.mark.parametrize("given", [True, False], ids=["explicit", "auto"])
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_read_is_what_was_written(tmp_path, form, given):
    path = write_dataset(form, tmp_path / "masks", DRAWN, CLASS_NAMES)
    asked = form if given or form == "binary" else "auto"
    images = {key: tmp_path / "images" / f"{key}.png" for key in DRAWN}
    names = CLASS_NAMES if form == "imagej" else None
    annotations = open_annotations(path, format=asked, class_names=names, images=None if given else images)
    annotations = pickle.loads(pickle.dumps(annotations))
    assert annotations.keys == frozenset(DRAWN)
    if form in WITH_CLASSES:
        assert set(annotations.class_names) == set(CLASS_NAMES)
    else:
        assert annotations.class_names == ("background", "cell")
    for key, (labels, classes) in DRAWN.items():
        drawing = annotations.read(key, labels.shape)
        assert drawing.labels.dtype == np.int32
        assert drawing.labels.shape == labels.shape
        assert drawing.files
        assert not drawing.lossy
        assert not drawing.binary
        assert drawing.num_hidden == 0
        assert drawing.ignore is None
        if form == "binary":
            labels, _ = ndimage.label(labels > 0, np.ones((3, 3)))
        assert same_up_to_numbers(labels, drawing.labels)
        if form in WITH_CLASSES:
            by_name = {
                index: annotations.class_names.index(CLASS_NAMES[kind]) for index, kind in classes.items()
            }
            np.testing.assert_array_equal(painted(drawing.labels, drawing.classes), painted(labels, by_name))


@pytest.mark.parametrize("form", FORMATS)
def test_an_image_of_another_size_is_named(tmp_path, form):
    path = write_dataset(form, tmp_path, {"a": DRAWN["a"]}, CLASS_NAMES)
    annotations = open_annotations(path, format=form, class_names=CLASS_NAMES)
    if form in ("qupath", "imagej"):
        # They do not know; but what was drawn on an image four times as large is noticed.
        with pytest.raises(ValueError, match=r"outside the image of 15 x 20"):
            annotations.read("a", (15, 20))
    else:
        with pytest.raises(ValueError, match=r"is 61 x 83 pixels but its image 83 x 61"):
            annotations.read("a", (83, 61))


@pytest.mark.parametrize("form", FORMATS)
def test_an_image_without_annotation_is_named(tmp_path, form):
    path = write_dataset(form, tmp_path, {"a": DRAWN["a"]}, CLASS_NAMES)
    annotations = open_annotations(path, format=form, class_names=CLASS_NAMES)
    with pytest.raises(ValueError, match=r"\bb\b.*; "):
        annotations.read("b", (61, 83))
