"""Label images, colours, foreground masks and masks of single instances."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.datasets.formats import FORMATS, open_annotations
from segjax.datasets.formats.layout import AnnotationSource
from segjax.errors import InputError

TWO_PARTS = np.zeros((8, 9), np.uint8)
TWO_PARTS[1:3, 1:4] = TWO_PARTS[5:7, 5:8] = 1


def read(folder, pixels, name="a.png", form="auto", **saving):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(folder / name, **saving)
    return open_annotations(folder, format=form).read("a", (picture.height, picture.width))


@pytest.mark.parametrize("value", [1, 7, 255])
@pytest.mark.parametrize("form", ["auto", "labels"])
def test_a_foreground_mask_never_becomes_instances_unasked(tmp_path, value, form):
    drawing = read(tmp_path, TWO_PARTS * np.uint8(value), form=form)
    assert drawing.binary
    np.testing.assert_array_equal(drawing.labels, TWO_PARTS * value)
    asked = read(tmp_path, TWO_PARTS * np.uint8(value), form="binary")
    assert not asked.binary
    assert asked.labels.max() == 2
    np.testing.assert_array_equal(asked.labels > 0, TWO_PARTS > 0)


def test_one_cell_alone_is_an_instance_and_corners_hold_together(tmp_path):
    one = TWO_PARTS.copy()
    one[3:5, 4] = 1  # touches the first part at a corner, the second at another
    assert not read(tmp_path, one * np.uint8(255)).binary
    assert read(tmp_path, one, form="binary").labels.max() == 1
    assert not read(tmp_path, TWO_PARTS * 0).binary
    two = TWO_PARTS.copy()
    two[5:7] *= 2
    assert not read(tmp_path, two).binary


def test_a_white_mask_in_colours_is_a_foreground_mask_too(tmp_path):
    white = np.repeat(TWO_PARTS[..., None] * np.uint8(255), 3, axis=-1)
    for form in ("auto", "labels", "colours"):
        assert read(tmp_path, white, form=form).binary
    assert read(tmp_path, white, form="binary").labels.max() == 2


def test_a_jpeg_is_said_to_be_one(tmp_path):
    soft = TWO_PARTS * np.uint8(255)
    drawing = read(tmp_path, soft, "a.jpg", quality=100)
    assert drawing.lossy
    assert not drawing.binary
    assert drawing.labels.max() > 200
    cut = read(tmp_path, soft, "a.jpg", "binary", quality=100)
    assert cut.lossy
    np.testing.assert_array_equal(cut.labels > 0, TWO_PARTS > 0)
    assert cut.labels.max() == 2
    assert read(tmp_path, np.repeat(soft[..., None], 3, -1), "a.jpg", "colours").lossy


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32])
def test_ids_of_every_depth(tmp_path, dtype):
    ids = np.array([[0, 3], [np.iinfo(dtype).max // 2, 3]], dtype)
    tifffile.imwrite(tmp_path / "a.tif", ids)
    np.testing.assert_array_equal(open_annotations(tmp_path).read("a", (2, 2)).labels, ids)


def test_of_a_palette_labels_are_the_indices_and_colours_the_colours(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8))
    # The first colour is not black, the last one is; two are alike.
    picture.putpalette([9, 9, 9, 5, 0, 0, 5, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(read(tmp_path, picture).labels, [[0, 1, 2, 3]])
    ids = read(tmp_path, picture, form="colours").labels
    np.testing.assert_array_equal(ids, [[2, 1, 1, 0]])


def test_transparent_is_background_and_black_where_nothing_is_transparent(tmp_path):
    colours = np.full((1, 3, 4), 255, np.uint8)
    colours[0, 0, :3] = 0
    assert (read(tmp_path, colours, form="colours").labels > 0).tolist() == [[False, True, True]]
    colours[0, 2, 3] = 0
    assert (read(tmp_path, colours, form="colours").labels > 0).tolist() == [[True, True, False]]


def test_grey_pictures_have_no_colours(tmp_path):
    with pytest.raises(InputError, match=r"a\.png has 1 channels of uint8, not 8-bit colours"):
        read(tmp_path, TWO_PARTS, form="colours")


@pytest.mark.parametrize("values", [(0, 1, 2), (1, 2), (0, 100, 180, 220, 255)])
def test_what_is_no_mask_of_two_values_is_refused(tmp_path, values):
    pixels = np.resize(np.array(values, np.uint8), (4, 6))
    with pytest.raises(InputError, match=rf"a\.png holds {len(values)} values \({values[0]}, "):
        read(tmp_path, pixels, form="binary")
    (tmp_path / "a").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "a" / "1.png")
    (said,) = open_annotations(tmp_path, format="instances").read("a", (4, 6)).invalid
    assert f"1.png holds {len(values)} values" in said


def test_damaged_and_huge_files_are_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for form in ("labels", "colours", "binary"):
        with pytest.raises(InputError, match=r"a\.png cannot be read"):
            open_annotations(tmp_path, format=form).read("a", (4, 6))
    Image.fromarray(TWO_PARTS).save(tmp_path / "a.png")
    for form in ("labels", "colours", "binary"):
        with pytest.raises(InputError, match=r"a\.png declares 8 x 9 pixels, more than 70"):
            FORMATS[form](AnnotationSource(tmp_path, max_pixels=70)).read("a", (8, 9))


def test_masks_of_instances_that_hide_each_other_are_counted(tmp_path):
    one = np.zeros((6, 6), np.uint8)
    one[2:4, 2:4] = 255
    for name, pixels in (("1", one), ("2", one), ("3", one * 0), ("4", one + 255 * (one == 0))):
        read_from = tmp_path / "a" / f"{name}.png"
        read_from.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(read_from)
    (tmp_path / "b").mkdir()
    annotations = open_annotations(tmp_path, format="instances")
    drawing = annotations.read("a", (6, 6))
    assert drawing.num_hidden == 2
    assert sorted(drawing.classes) == [2, 4]
    assert len(drawing.files) == 4
    assert annotations.read("b", (6, 6)).labels.max() == 0


def test_masks_beside_several_images_are_in_doubt(tmp_path):
    for name in ("images/a.png", "images/b.png", "masks/1.png"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(TWO_PARTS).save(tmp_path / "x" / name)
    with pytest.raises(InputError, match=r"images holds 2 images, but .*masks the masks of one"):
        open_annotations(tmp_path, format="instances")
    for name in ("images/a.png", "images/b.png", "images"):
        path = tmp_path / "x" / name
        path.rmdir() if path.is_dir() else path.unlink()
    assert open_annotations(tmp_path, format="instances").keys == {"x"}
    with pytest.raises(InputError, match="is not a folder; instances lie in one folder for each image"):
        open_annotations(tmp_path / "x" / "masks" / "1.png", format="instances")
    with pytest.raises(InputError, match="holds no folder of masks"):
        open_annotations(tmp_path / "x" / "masks", format="instances")


def test_colours_in_numpy_files(tmp_path):
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[1, 1:3], colours[3, 3:] = (255, 0, 0), (0, 255, 0)
    np.save(tmp_path / "a.npy", colours)
    labels = open_annotations(tmp_path, format="colours").read("a", (4, 5)).labels
    np.testing.assert_array_equal(labels, colours[..., 1] // 255 + 2 * (colours[..., 0] // 255))


@pytest.mark.parametrize("alpha", [0, b"\x00", b"\x00\xff\x80"])
def test_the_transparent_index_of_a_palette_is_background(tmp_path, alpha):
    picture = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8))
    picture.putpalette([255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 0])
    picture.save(tmp_path / "a.png", transparency=alpha)
    ids = open_annotations(tmp_path, format="colours").read("a", (1, 4)).labels
    np.testing.assert_array_equal(ids > 0, [[False, True, True, True]])  # black is a colour now
    Image.open(tmp_path / "a.png").convert("RGBA").save(tmp_path / "a.png")
    again = open_annotations(tmp_path, format="colours").read("a", (1, 4)).labels
    np.testing.assert_array_equal(ids, again)


@pytest.mark.parametrize("form", ["labels", "binary", "classes", "instances"])
def test_a_plane_is_chosen_in_masks_that_are_stacks(tmp_path, form):
    stack = np.zeros((3, *TWO_PARTS.shape), np.uint8)
    stack[1] = TWO_PARTS > 0
    path = tmp_path / ("a/1.tif" if form == "instances" else "a.tif")
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    annotations = open_annotations(tmp_path, format=form, planes={"Z": 1})
    labels = annotations.read("a", TWO_PARTS.shape).labels
    np.testing.assert_array_equal(labels > 0, TWO_PARTS > 0)


def test_the_number_of_a_plane_chooses_no_row_of_a_colour_picture(tmp_path):
    colours = np.zeros((9, 12, 3), np.uint8)
    colours[2:5, 2:5] = (255, 0, 0)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    labels = open_annotations(tmp_path, format="colours", planes={"0": 1}).read("a", (9, 12)).labels
    assert labels.sum() == 9
