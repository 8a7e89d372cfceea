import json
import shutil

import numpy as np
import pytest
from PIL import Image

from segjax.datasets.formats import open_annotations
from segjax.datasets.formats.coco import Coco
from segjax.datasets.formats.layout import OneFilePerImage
from segjax.datasets.formats.mask_images import Instances
from segjax.errors import InputError
from tests.datasets.formats.written import cells, write_dataset

DRAWN = {"a": cells(0), "b": cells(1)}


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("form", "kind"),
    [("coco", Coco), ("labelme", OneFilePerImage), ("qupath", OneFilePerImage), ("imagej", OneFilePerImage)],
)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_outlines_beside_the_images_they_were_drawn_on(tmp_path, form, kind, ending):
    write_dataset(form, tmp_path, DRAWN)
    for key in DRAWN:
        put(tmp_path / f"{key}.{ending}", np.zeros((61, 83), np.uint8))
    annotations = open_annotations(tmp_path)
    assert isinstance(annotations, kind)
    assert annotations.read("a", (61, 83)).labels.any()


def test_geojson_by_the_name_of_json(tmp_path):
    write_dataset("qupath", tmp_path, DRAWN)
    for key in DRAWN:
        (tmp_path / f"{key}.geojson").rename(tmp_path / f"{key}.json")
    assert open_annotations(tmp_path).read("a", (61, 83)).files[0].endswith("a.json")


def test_one_file_tells_its_format(tmp_path):
    for form, name in (("coco", "annotations.json"), ("labelme", "a.json"), ("imagej", "a.zip")):
        write_dataset(form, tmp_path / form, DRAWN)
        assert "a" in open_annotations(tmp_path / form / name).keys


def test_the_data_science_bowl(tmp_path):
    mask = np.zeros((2, 9, 9), np.uint8)
    mask[0, 1:4, 1:4] = mask[1, 3:8, 3:8] = 255
    for key in ("0a1", "0b2"):
        put(tmp_path / key / "images" / f"{key}.png", np.zeros((9, 9, 4), np.uint8))
        for index, pixels in enumerate(mask):
            put(tmp_path / key / "masks" / f"{index}.png", pixels)
    annotations = open_annotations(tmp_path)
    assert isinstance(annotations, Instances)
    assert annotations.keys == {"0a1/images/0a1", "0b2/images/0b2"}
    drawing = annotations.read("0a1/images/0a1", (9, 9))
    assert (drawing.labels == 1).sum() == 9  # the smaller is on top
    assert (drawing.labels == 2).sum() == 24


def test_is_in_doubt_between_two_formats(tmp_path):
    write_dataset("labels", tmp_path, DRAWN)
    write_dataset("labelme", tmp_path, DRAWN)
    with pytest.raises(
        InputError, match=r"\(labelme\) and .*\(labels\) have different formats.*: labels, colo"
    ):
        open_annotations(tmp_path)
    assert open_annotations(tmp_path, format="labels").keys == set(DRAWN)


def test_is_in_doubt_whether_masks_are_of_one_cell_or_of_all(tmp_path):
    write_dataset("instances", tmp_path / "masks", DRAWN)
    with pytest.raises(InputError, match=r"may be the mask of one instance or of all cells; name the format"):
        open_annotations(tmp_path / "masks")
    images = {key: tmp_path / "images" / f"{key}.png" for key in DRAWN}
    assert isinstance(open_annotations(tmp_path / "masks", images=images), Instances)
    shutil.rmtree(tmp_path / "masks")
    write_dataset("labels", tmp_path / "masks", {f"plate/{key}": drawn for key, drawn in DRAWN.items()})
    assert open_annotations(tmp_path / "masks").keys == {"plate/a", "plate/b"}


@pytest.mark.parametrize("form", ["labelme", "qupath", "voc"])
def test_one_damaged_file_does_not_cost_the_others(tmp_path, form):
    write_dataset(form, tmp_path, DRAWN)
    (tmp_path / "class_names.txt").unlink(missing_ok=True)
    damaged = next(tmp_path.rglob("SegmentationClass/a.png" if form == "voc" else "a.*json"))
    damaged.write_bytes(b"{")
    annotations = open_annotations(tmp_path)
    assert annotations.read("b", (61, 83)).labels.any()
    with pytest.raises(InputError, match=r"a\.(png|json|geojson) "):
        annotations.read("a", (61, 83))


def test_a_damaged_file_alone_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json is not JSON"):
        open_annotations(tmp_path)


def test_what_annotates_nothing_is_passed_over(tmp_path):
    write_dataset("labels", tmp_path, DRAWN)
    for name, value in (("a.json", []), ("b.json", 3), ("c.json", {"x": 1}), ("d.json", [1])):
        (tmp_path / name).write_text(json.dumps(value))
    assert open_annotations(tmp_path).keys == {"a", "b"}
