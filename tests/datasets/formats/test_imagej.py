import io
import re
import zipfile

import numpy as np
import pytest
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from segjax.datasets.formats import imagej, open_annotations
from segjax.errors import InputError
from tests.datasets.formats.faults import fault
from tests.datasets.formats.written import roi

SHAPE = (20, 30)
SQUARE = np.zeros(SHAPE, bool)
SQUARE[2:6, 3:9] = True


def box(kind, left=3, top=2, right=9, bottom=6, **fields):
    return ImagejRoi(roitype=kind, left=left, top=top, right=right, bottom=bottom, **fields)


def write(tmp_path, *rois, names=None):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for index, one in enumerate(rois):
            content = one if isinstance(one, bytes) else one.tobytes()
            archive.writestr(names[index] if names else f"{index}.roi", content)
    return tmp_path


def read(tmp_path, *rois, **options):
    return open_annotations(write(tmp_path, *rois), **options).read("a", SHAPE)


def test_a_single_roi_file(tmp_path):
    (tmp_path / "a_mask.roi").write_bytes(roi(SQUARE).tobytes())
    np.testing.assert_array_equal(open_annotations(tmp_path).read("a", SHAPE).labels > 0, SQUARE)


@pytest.mark.parametrize("kind", [ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED])
def test_outlines_in_whole_pixels_and_between_them(tmp_path, kind):
    corners = np.array([[3, 2], [9, 2], [9, 6], [3, 6]])
    for points in (corners, corners + 0.4):
        one = ImagejRoi.frompoints(points)
        one.roitype = kind
        np.testing.assert_array_equal(read(tmp_path, one).labels > 0, SQUARE)


def test_rectangles(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, box(ROI_TYPE.RECT)).labels > 0, SQUARE)
    between = box(
        ROI_TYPE.RECT,
        version=227,
        options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION,
        xd=3.6,
        yd=2.0,
        widthd=5.0,
        heightd=4.0,
    )
    labels = read(tmp_path, between).labels
    np.testing.assert_array_equal(np.flatnonzero(labels[3]), np.arange(4, 9))


def test_an_oval_has_the_pixels_whose_centre_is_in_the_ellipse(tmp_path):
    labels = read(tmp_path, box(ROI_TYPE.OVAL, 4, 2, 14, 8)).labels
    rows, columns = np.mgrid[:20, :30] + 0.5
    expected = ((columns - 9) / 5) ** 2 + ((rows - 5) / 3) ** 2 <= 1
    np.testing.assert_array_equal(labels > 0, expected)


def test_a_group_is_a_class_where_there_are_several(tmp_path):
    rois = [
        box(ROI_TYPE.RECT, left=left, right=left + 3, group=group) for group, left in enumerate((1, 5, 9))
    ]
    assert read(tmp_path, *rois).classes == {1: 1, 2: 1, 3: 1}
    names = ("background", "nucleus", "debris")
    assert read(tmp_path, *rois, class_names=names).classes == {1: 1, 2: 1, 3: 2}
    with pytest.raises(InputError, match=r"a\.zip: 0\.roi has the group 3; there are 2 classes"):
        read(tmp_path, box(ROI_TYPE.RECT, group=3), class_names=names)


@pytest.mark.parametrize(
    "name", ["../evil.roi", "/evil.roi", "x/../../evil.roi", "..\\evil.roi", "C:\\evil.roi"]
)
def test_a_zip_with_a_path_outside_its_folder_is_refused(tmp_path, name):
    write(tmp_path, roi(SQUARE), names=[name])
    with pytest.raises(InputError, match=r"a\.zip holds .*evil\.roi, a path outside its folder"):
        open_annotations(tmp_path).read("a", SHAPE)


def test_what_else_is_in_a_zip(tmp_path):
    names = ["b.roi", "__MACOSX/b.roi", "sub/", "sub/._c.roi", "sub/c.roi"]
    contents = [roi(SQUARE), b"junk", b"", b"junk", box(ROI_TYPE.RECT, 15, 10, 17, 12)]
    write(tmp_path, *contents, names=names)
    assert open_annotations(tmp_path).read("a", SHAPE).classes == {1: 1, 2: 1}
    write(tmp_path, b"x", names=["readme.txt"])
    with pytest.raises(InputError, match=r"a\.zip holds readme\.txt, which is no ROI"):
        open_annotations(tmp_path).read("a", SHAPE)


def test_bounds_hold_before_anything_is_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.roi", bytes(2**24 + 1))
    with pytest.raises(InputError, match=r"bomb\.roi of 16777217 bytes: no ROI is that large"):
        open_annotations(tmp_path).read("a", SHAPE)
    monkeypatch.setattr(imagej, "MAX_MEMBERS", 2)
    write(tmp_path, *[roi(SQUARE)] * 3)
    with pytest.raises(InputError, match=r"a\.zip holds more than 2 ROIs"):
        open_annotations(tmp_path).read("a", SHAPE)
    (tmp_path / "a.zip").unlink()
    with (tmp_path / "a.roi").open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(InputError, match=r"a\.roi has 16777217 bytes"):
        open_annotations(tmp_path).read("a", SHAPE)


def with_coordinates(coordinates):
    one = ImagejRoi.frompoints(np.array([[1.0, 1], [5, 1], [5, 5]]))
    one.subpixel_coordinates = np.array(coordinates, np.float32)
    return one


def composite(path):
    return box(ROI_TYPE.RECT, multi_coordinates=np.array(path, np.float32), shape_roi_size=len(path))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", "cannot be read"),
        (b"Iout" + bytes(20), "cannot be read"),
        (b"JPEG" + bytes(200), "cannot be read"),
        (roi(SQUARE).tobytes()[:70], "cannot be read"),
        (composite([0, 1, 1, 3, 1, 1, 1]), "cannot be read"),
        (composite([0, 1]), "cannot be read"),
        (composite([9, 1, 1]), "cannot be read"),
        (box(ROI_TYPE.LINE), "type LINE covers no area"),
        (
            box(ROI_TYPE.POINT, integer_coordinates=np.zeros((1, 2), np.int32), n_coordinates=1),
            "POINT covers",
        ),
        (box(ROI_TYPE.RECT, subtype=ROI_SUBTYPE.TEXT), "subtype TEXT covers no cell"),
        (with_coordinates([[1, 1], [np.nan, 1], [5, 5]]), "coordinates hold NaN"),
        (with_coordinates([[1, 1], [1e30, 1], [5, 5]]), "outside the image of 20 x 30"),
        (box(ROI_TYPE.OVAL, right=500), r"has \(500, 2\), outside the image of 20 x 30"),
    ],
)
def test_a_broken_roi_is_named(tmp_path, bad, message):
    said = fault(read, tmp_path, roi(SQUARE), bad, *[roi(SQUARE)] * 4)
    assert re.search(rf"a\.zip: 1\.roi.*{message}", said)


def test_damaged_archives_are_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK but no archive")
    with pytest.raises(InputError, match=r"a\.zip cannot be read"):
        open_annotations(tmp_path).read("a", SHAPE)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.roi", roi(SQUARE).tobytes())
    broken = bytearray(content.getvalue())
    broken[60] ^= 255
    (tmp_path / "a.zip").write_bytes(broken)
    with pytest.raises(InputError, match=r"a\.zip cannot be read \(Bad CRC"):
        open_annotations(tmp_path).read("a", SHAPE)


def test_several_slices_of_a_stack_are_refused(tmp_path):
    slices = [box(ROI_TYPE.RECT, position=position) for position in (1, 2)]
    with pytest.raises(InputError, match=r"a\.zip has ROIs on several slices of a stack"):
        read(tmp_path, *slices)
