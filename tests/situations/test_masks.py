"""Masks as tools write them: what each becomes. A new situation is one line of a table."""

import numpy as np
import pytest
from PIL import Image

from segjax.datasets.checks.annotation import check_annotation
from segjax.datasets.formats import open_annotations
from segjax.errors import InputError

SHAPE = (96, 128)


def cells():
    """Label image of eight discs, in two rows."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    labels = np.zeros(SHAPE, np.uint8)
    for index in range(8):
        row, column = 24 + 48 * (index // 4), 16 + 32 * (index % 4)
        labels[(y - row) ** 2 + (x - column) ** 2 < 11**2] = index + 1
    return labels


def coloured(labels):
    colours = np.random.default_rng(3).integers(60, 255, (9, 3)).astype(np.uint8)
    colours[0] = 0
    return colours[labels]


def resampled(picture, method=Image.Resampling.BICUBIC):
    small = Image.fromarray(picture).resize((picture.shape[1] // 2, picture.shape[0] // 2), method)
    return np.asarray(small.resize(picture.shape[1::-1], method))


def classes_of(labels, last=4):
    return np.where(labels > last, 2, (labels > 0).astype(np.uint8)).astype(np.uint8)


def blurred(picture):
    return np.asarray(Image.fromarray(picture).rotate(3, Image.Resampling.BICUBIC))


def half_as_large(labels):
    """Outlines that were drawn on the image at half of its size."""
    return np.pad(labels[::2, ::2], ((0, SHAPE[0] // 2), (0, SHAPE[1] // 2)))


def few(count):
    labels = cells()
    return np.where(labels <= count, labels, 0).astype(np.uint8)


# The mask, the format that it is read with, and the kinds of findings.
SITUATIONS = {
    "label image": (cells, "labels", []),
    "colours": (lambda: coloured(cells()), "colours", []),
    "resampled colours": (lambda: resampled(coloured(cells())), "colours", ["lossy_mask"]),
    "bilinear colours": (
        lambda: resampled(coloured(cells()), Image.Resampling.BILINEAR),
        "colours",
        ["lossy_mask"],
    ),
    "rotated colours": (lambda: blurred(coloured(cells())), "colours", ["lossy_mask"]),
    "one cell, resampled": (lambda: resampled(coloured(few(1))), "colours", ["lossy_mask"]),
    "three cells, resampled": (lambda: resampled(coloured(few(3))), "colours", ["lossy_mask"]),
    "three cells, by areas": (
        lambda: resampled(coloured(few(3)), Image.Resampling.BOX)[::2, ::2],
        "colours",
        ["lossy_mask"],
    ),
    "resampled labels": (lambda: resampled(cells()), "labels", ["lossy_mask"]),
    "resampled foreground": (lambda: resampled((cells() > 0) * np.uint8(255)), "labels", ["lossy_mask"]),
    "colours as labels": (lambda: coloured(cells()), "labels", ["id_gaps"]),
    "class map with a rare class": (lambda: classes_of(cells(), 7), "labels", ["class_map"]),
    "class map of grey levels": (lambda: classes_of(cells()) * np.uint8(127), "labels", ["class_map"]),
    "class map of colours": (lambda: coloured(classes_of(cells())), "colours", ["class_map"]),
    "class map as labels": (lambda: classes_of(cells()), "labels", ["class_map"]),
    "class map": (lambda: classes_of(cells()), "classes", []),
    "foreground": (lambda: (cells() > 0).astype(np.uint8), "labels", ["binary_mask"]),
    "drawn on a smaller image": (lambda: half_as_large(cells()), "labels", ["only_in_corner"]),
    "cells in the middle of the upper half": (
        lambda: np.pad(half_as_large(cells())[:, :64], ((0, 0), (32, 32))),
        "labels",
        [],
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_mask_is_read_or_its_fault_is_named(tmp_path, name):
    make, form, expected = SITUATIONS[name]
    Image.fromarray(make()).save(tmp_path / "a.png")
    annotations = open_annotations(tmp_path, format=form)
    raw = annotations.read("a", make().shape[:2])
    truth, findings = check_annotation(raw, raw.labels.shape, num_classes=len(annotations.class_names))
    assert [finding.kind for finding in findings] == expected
    if not expected:
        assert truth.num_instances == 8


def test_a_jpeg_that_became_a_colour_mask_is_lossy(tmp_path):
    Image.fromarray(coloured(cells())).save(tmp_path / "a.jpg", quality=80)
    Image.fromarray(np.asarray(Image.open(tmp_path / "a.jpg"))).save(tmp_path / "a.png")
    (tmp_path / "a.jpg").unlink()
    raw = open_annotations(tmp_path, format="colours").read("a", SHAPE)
    assert [finding.kind for finding in check_annotation(raw, SHAPE, num_classes=2)[1]] == ["lossy_mask"]


# The values of the pixels, the names by the user, the names of the classes, and the classes of eight cells.
CLASS_MAPS = {
    "numbers": (classes_of, None, ("class 1", "class 2"), (1, 2)),
    "numbers with names": (classes_of, ("nucleus", "debris"), ("nucleus", "debris"), (1, 2)),
    "a class that no image has": (classes_of, ("a", "b", "c"), ("a", "b", "c"), (1, 2)),
    "grey levels": (
        lambda labels: classes_of(labels) * np.uint8(127),
        None,
        ("class 127", "class 254"),
        (1, 2),
    ),
    "grey levels with names": (
        lambda labels: classes_of(labels) * np.uint8(127),
        ("a", "b"),
        ("a", "b"),
        (1, 2),
    ),
    "colours": (
        lambda labels: np.array([[0, 0, 0], [0, 255, 0], [255, 0, 0]], np.uint8)[classes_of(labels)],
        None,
        ("class #00ff00", "class #ff0000"),
        (1, 2),
    ),
}


@pytest.mark.parametrize("name", CLASS_MAPS)
def test_parts_of_a_class_map_are_cells_of_its_classes(tmp_path, name):
    make, asked, names, expected = CLASS_MAPS[name]
    Image.fromarray(make(cells())).save(tmp_path / "a.png")
    # A damaged file, and one that holds ids, do not change the others.
    (tmp_path / "b.png").write_bytes(b"broken")
    Image.fromarray(np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.uint16)).save(tmp_path / "c.png")
    annotations = open_annotations(
        tmp_path, format="classes", class_names=None if asked is None else ("background", *asked)
    )
    assert annotations.class_names == ("background", *names)
    raw = annotations.read("a", SHAPE)
    assert sorted(raw.classes.values()) == [expected[0]] * 4 + [expected[1]] * 4
    with pytest.raises(InputError, match="12 x 12"):
        annotations.read("a", (12, 12))
    with pytest.raises(InputError, match=r"c\.png holds 12287 values, more than classes") as error:
        annotations.read("c", SHAPE)
    assert error.value.kind == "invalid_class"


def test_more_values_than_names_are_refused(tmp_path):
    Image.fromarray(classes_of(cells())).save(tmp_path / "a.png")
    annotations = open_annotations(tmp_path, format="classes", class_names=("background", "cell"))
    with pytest.raises(InputError, match="value 2, which is none of the 1 classes"):
        annotations.read("a", SHAPE)


def test_blends_of_classes_are_no_classes(tmp_path):
    picture = resampled(classes_of(cells()) * np.uint8(127))
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="values, more than classes: export it without scaling"):
        open_annotations(tmp_path, format="classes").read("a", SHAPE)


@pytest.mark.parametrize("count", [1, 2, 60])
def test_small_cells_of_different_ids_are_cells(tmp_path, count):
    """Neither tiny cells nor few of them are lossy masks or classes."""
    labels = np.zeros(SHAPE, np.uint8)
    for index in range(count):
        row, column = 8 * (index // 12) + 2, 10 * (index % 12) + 2
        labels[row : row + 2, column : column + 2] = index + 1
    Image.fromarray(labels).save(tmp_path / "a.png")
    raw = open_annotations(tmp_path, format="labels").read("a", SHAPE)
    truth, findings = check_annotation(raw, SHAPE, num_classes=2)
    assert truth.num_instances == count
    assert not {"lossy_mask", "class_map"} & {finding.kind for finding in findings}
