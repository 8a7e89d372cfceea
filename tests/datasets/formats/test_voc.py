import re

import numpy as np
import pytest
from PIL import Image

from segjax.datasets.formats import open_annotations
from segjax.datasets.formats.voc import PALETTE
from segjax.errors import InputError

OBJECTS = np.array([[0, 0, 255, 1, 1], [0, 255, 2, 2, 1], [0, 0, 0, 0, 0]], np.uint8)
CLASSES = np.array([[0, 0, 255, 3, 3], [0, 255, 1, 1, 1], [0, 0, 2, 0, 0]], np.uint8)


def palette(pixels):
    picture = Image.fromarray(pixels)
    picture.putpalette([value for index in range(256) for value in (index, 7, 7)])
    return picture


def colours(pixels):
    packed = PALETTE[pixels]
    return Image.fromarray(np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8))


def write(root, objects=OBJECTS, classes=CLASSES, picture=palette):
    for folder, pixels in (("SegmentationObject", objects), ("SegmentationClass", classes)):
        (root / folder).mkdir(exist_ok=True)
        picture(pixels).save(root / folder / "a.png")
    return root


@pytest.mark.parametrize("picture", [palette, colours, Image.fromarray])
def test_pairs_of_pictures_in_indices_or_in_the_colours_of_voc(tmp_path, picture):
    annotations = open_annotations(write(tmp_path, picture=picture))
    assert annotations.class_names == ("background", "class 1", "class 2", "class 3")
    drawing = annotations.read("a", (3, 5))
    np.testing.assert_array_equal(drawing.labels, np.where(OBJECTS == 255, 0, OBJECTS))
    # An object has the class of most of its pixels.
    assert drawing.classes == {1: 3, 2: 1}
    # Void, and a class without an object.
    np.testing.assert_array_equal(np.argwhere(drawing.ignore), [[0, 2], [1, 1], [2, 2]])
    assert len(drawing.files) == 2


def test_the_palette_is_that_of_voc():
    # aeroplane, bicycle, bird, void
    assert [f"{PALETTE[index]:06x}" for index in (0, 1, 2, 3, 255)] == [
        "000000",
        "800000",
        "008000",
        "808000",
        "e0e0c0",
    ]
    assert len(set(PALETTE.tolist())) == 256


def test_names_from_a_list_or_from_the_user(tmp_path):
    write(tmp_path)
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb\nbackground:0,0,0::\nx:1,1,1::\ny:::\nz:::\n")
    assert open_annotations(tmp_path).class_names == ("background", "x", "y", "z")
    (tmp_path / "class_names.txt").write_text("__ignore__\n_background_\nn\nm\no\n")
    assert open_annotations(tmp_path).class_names == ("background", "n", "m", "o")
    class_names = ("background", "one", "two")
    with pytest.raises(InputError, match=r"a\.png has object 1 on class 3; classes of objects are 1 to 2"):
        open_annotations(tmp_path, class_names=class_names).read("a", (3, 5))


def test_classes_in_the_colours_of_a_list(tmp_path):
    """CVAT paints classes in colours that the user chooses, and objects in those of VOC."""
    listed = {"background": (0, 0, 0), "x": (250, 50, 83), "y": (51, 221, 255), "z": (1, 2, 3)}
    rows = [f"{name}:{','.join(map(str, colour))}::" for name, colour in listed.items()]
    (tmp_path / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *rows]))
    write(tmp_path, picture=colours)
    painted = np.zeros((256, 3), np.uint8)
    painted[:4], painted[255] = list(listed.values()), (224, 224, 192)
    Image.fromarray(painted[CLASSES]).save(tmp_path / "SegmentationClass" / "a.png")
    annotations = open_annotations(tmp_path)
    assert annotations.class_names == ("background", "x", "y", "z")
    assert annotations.read("a", (3, 5)).classes == {1: 3, 2: 1}
    write(tmp_path, picture=colours)
    with pytest.raises(InputError, match="has colours that are not in the list of classes"):
        annotations.read("a", (3, 5))


def test_broken_pairs_are_named(tmp_path):
    with pytest.raises(InputError, match="SegmentationObject is missing"):
        open_annotations(tmp_path, format="voc")
    write(tmp_path, classes=CLASSES * 0)
    drawing = open_annotations(tmp_path).read("a", (3, 5))
    assert [re.sub(".*Segm", "", each) for each in drawing.invalid] == [
        f"entationClass/a.png: object {index} has no class" for index in (1, 2)
    ]
    assert not drawing.labels.any()
    write(tmp_path, classes=CLASSES[:2])
    with pytest.raises(InputError, match=r"SegmentationClass.a\.png is 2 x 5 pixels"):
        open_annotations(tmp_path).read("a", (3, 5))
    write(tmp_path, picture=lambda pixels: Image.fromarray(np.stack([pixels] * 3, -1)))
    with pytest.raises(InputError, match="has colours that are not in VOC's palette"):
        open_annotations(tmp_path, class_names=("background", "x")).read("a", (3, 5))
    write(tmp_path)
    (tmp_path / "SegmentationClass" / "a.png").rename(tmp_path / "SegmentationClass" / "b.png")
    with pytest.raises(InputError, match=r"SegmentationClass.a\.png does not exist"):
        open_annotations(tmp_path).read("a", (3, 5))


def test_void_in_the_picture_of_objects_alone_is_no_cell(tmp_path):
    objects = np.array([[255, 255, 255, 255], [255, 1, 2, 255]], np.uint8)
    drawing = open_annotations(write(tmp_path, objects, np.ones((2, 4), np.uint8))).read("a", (2, 4))
    np.testing.assert_array_equal(drawing.labels, [[0, 0, 0, 0], [0, 1, 2, 0]])
    np.testing.assert_array_equal(drawing.ignore, drawing.labels == 0)
    assert drawing.num_hidden == 0


def test_255_is_an_object_where_all_numbers_below_are(tmp_path):
    objects = np.arange(256, dtype=np.uint8)[None]
    drawing = open_annotations(write(tmp_path, objects, np.ones_like(objects))).read("a", (1, 256))
    np.testing.assert_array_equal(drawing.labels, objects)
    assert drawing.num_hidden == 0
