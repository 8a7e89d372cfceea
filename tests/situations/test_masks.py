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


def classes_of(labels):
    return np.where(labels > 4, 2, (labels > 0).astype(np.uint8)).astype(np.uint8)


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
    "class map as labels": (lambda: classes_of(cells()), "labels", ["class_map"]),
    "class map": (lambda: classes_of(cells()), "classes", []),
    "foreground": (lambda: (cells() > 0).astype(np.uint8), "labels", ["binary_mask"]),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_mask_is_read_or_its_fault_is_named(tmp_path, name):
    make, form, expected = SITUATIONS[name]
    Image.fromarray(make()).save(tmp_path / "a.png")
    annotations = open_annotations(tmp_path, format=form)
    raw = annotations.read("a", SHAPE)
    truth, findings = check_annotation(raw, SHAPE, num_classes=len(annotations.class_names))
    assert [finding.kind for finding in findings] == expected
    if not expected:
        assert truth.num_instances == 8


def test_a_jpeg_that_became_a_colour_mask_is_lossy(tmp_path):
    Image.fromarray(coloured(cells())).save(tmp_path / "a.jpg", quality=80)
    Image.fromarray(np.asarray(Image.open(tmp_path / "a.jpg"))).save(tmp_path / "a.png")
    (tmp_path / "a.jpg").unlink()
    raw = open_annotations(tmp_path, format="colours").read("a", SHAPE)
    assert [finding.kind for finding in check_annotation(raw, SHAPE, num_classes=2)[1]] == ["lossy_mask"]


def test_parts_of_a_class_map_are_cells_of_its_classes(tmp_path):
    Image.fromarray(classes_of(cells())).save(tmp_path / "a.png")
    annotations = open_annotations(tmp_path, format="classes")
    assert annotations.class_names == ("background", "class 1", "class 2")
    assert sorted(annotations.read("a", SHAPE).classes.values()) == [1] * 4 + [2] * 4
    named = open_annotations(tmp_path, format="classes", class_names=("background", "nucleus", "debris"))
    assert named.class_names == ("background", "nucleus", "debris")
    with pytest.raises(InputError, match="12 x 12"):
        annotations.read("a", (12, 12))


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
