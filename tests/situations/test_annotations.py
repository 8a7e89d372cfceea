"""Annotation files as programs write and people break them. A new situation is one line of a table."""

import base64
import json
import zipfile

import numpy as np
import pytest
import roifile
from PIL import Image

from segjax.data.readers import read_image, read_labels
from segjax.datasets.checks.annotation import check_annotation
from segjax.datasets.checks.files import check_file
from segjax.datasets.checks.findings import KINDS, finding_of, is_excluded
from segjax.datasets.folder.image_files import list_items
from segjax.datasets.formats import open_annotations
from segjax.errors import InputError
from segjax.experiment.prepare_folder import prepare_folder
from segjax.experiment.prepare_inputs import Request
from segjax.typing import IGNORE
from tests.datasets.formats.written import write_dataset
from tests.situations.conftest import SHAPE, cells, write_cells

OUTSIDE = [[120, 90], [133, 90], [133, 95]]


def opened(folder, form):
    return open_annotations(folder, format=form, class_names=("background", "cell"))


def checked(folder, form):
    """The segmentation of `cell0` and the kinds of its findings."""
    raw = opened(folder, form).read("cell0", SHAPE)
    truth, findings = check_annotation(raw, SHAPE, num_classes=2)
    return truth, {finding.kind: finding.detail for finding in findings}


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


# Each adds an entry to the annotations of `cell0`.
def labelme(shape):
    return lambda folder: edit(folder / "cell0.json", lambda document: document["shapes"].append(shape))


def shape_of(points, kind="polygon", label="cell", **fields):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **fields}


def qupath(feature):
    def add(folder):
        path = folder / "cell0.geojson"
        document = json.loads(path.read_text())
        features = document if isinstance(document, list) else document["features"]
        path.write_text(json.dumps([*features, feature]))

    return add


def feature_of(coordinates, kind="Polygon", **fields):
    geometry = {"type": kind, "coordinates": coordinates}
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {"objectType": "annotation", "classification": {"name": "cell"}},
        **fields,
    }


def coco(segmentation, **fields):
    entry = {"id": 999, "image_id": 10, "category_id": 3, "segmentation": segmentation, "iscrowd": 0}
    return lambda folder: edit(
        folder / "annotations.json", lambda document: document["annotations"].append(entry | fields)
    )


def imagej(roi):
    def add(folder):
        with zipfile.ZipFile(folder / "cell0.zip", "a") as archive:
            archive.writestr("9999.roi", roi if isinstance(roi, bytes) else roi.tobytes())

    return add


def roi_of(kind, points):
    points = np.array(points, np.float32)
    roi = roifile.ImagejRoi.frompoints(np.nan_to_num(points) + 0.25)
    roi.subpixel_coordinates = points
    roi.roitype = kind
    return roi


def instances(content):
    return lambda folder: (folder / "cell0" / "9999.png").write_bytes(content)


def voc_without_class(folder):
    path = folder / "SegmentationClass" / "cell0.png"
    objects = np.asarray(Image.open(folder / "SegmentationObject" / "cell0.png"))
    with Image.open(path) as picture:
        palette, classes = picture.getpalette(), np.array(picture)
    classes[objects == 8] = 0
    changed = Image.fromarray(classes)
    changed.putpalette(palette)
    changed.save(path)


# The entry that is added, and the clause that names what is wrong with it.
INVALID = {
    "labelme: no point": (labelme(shape_of([])), "has 0 points"),
    "labelme: two points": (labelme(shape_of([[5, 5], [9, 9]])), "has 2 points"),
    "labelme: a point": (labelme(shape_of([[5, 5]], "point")), "'point', which covers no area"),
    "labelme: a line": (labelme(shape_of([[5, 5], [9, 9]], "line")), "'line', which covers no area"),
    "labelme: a strip of lines": (labelme(shape_of([[5, 5], [9, 9], [9, 1]], "linestrip")), "no area"),
    "labelme: slightly outside": (labelme(shape_of(OUTSIDE)), r"has \(133, 90\), outside"),
    "labelme: NaN": (labelme(shape_of([[5, 5], [9, 9], [9, float("nan")]])), "NaN"),
    "labelme: no points": (labelme({"label": "cell"}), "is not a list of points"),
    "labelme: no label": (labelme(shape_of([[5, 5], [9, 9], [9, 1]], label=None)), "label is None"),
    "labelme: no object": (labelme(3), "is not a list of points"),
    "labelme: damaged mask": (labelme(shape_of([[5, 5], [9, 9]], "mask", mask="iVBOR")), "cannot be read"),
    "labelme: cut-off mask": (
        labelme(shape_of([[5, 5], [9, 9]], "mask", mask=base64.b64encode(b"\x89PNG\r\n\x1a\n").decode())),
        "cannot be read",
    ),
    "labelme: turned by a number": (
        labelme(shape_of([[5, 5], [9, 9]], "rectangle", rotation=30)),
        "rotation is 30",
    ),
    "qupath: no ring": (qupath(feature_of([])), "is not a list of rings"),
    "qupath: two points": (qupath(feature_of([[[5, 5], [9, 9]]])), "a ring of 2 points"),
    "qupath: empty ring": (qupath(feature_of([[]])), "a ring of 0 points"),
    "qupath: a point": (qupath(feature_of([5, 5], "Point")), "'Point', which covers no area"),
    "qupath: a line": (qupath(feature_of([[5, 5], [9, 9]], "LineString")), "which covers no area"),
    "qupath: no geometry": (qupath(feature_of([], geometry=None)), "geometry is None"),
    "qupath: NaN": (qupath(feature_of([[[5, 5], [9, 9], [float("nan"), 1]]])), "NaN"),
    "qupath: far outside": (qupath(feature_of([[[900, 5], [990, 9], [900, 9]]])), "outside the image"),
    "qupath: no object": (qupath(3), "type is not Feature"),
    "qupath: a class of no text": (
        qupath(feature_of([[[5, 5], [9, 9], [9, 1]]], properties={"classification": {"name": 3}})),
        "name is 3",
    ),
    "coco: empty": (coco([]), "is missing or empty"),
    "coco: empty polygon": (coco([[]]), "a polygon of 0 numbers"),
    "coco: two points": (coco([[5, 5, 9, 9]]), "a polygon of 4 numbers"),
    "coco: slightly outside": (coco([np.ravel(OUTSIDE).tolist()]), r"has \(133, 90\), outside"),
    "coco: a box alone": (coco(None, bbox=[5, 5, 9, 9]), "is missing or empty"),
    "coco: no category": (coco([[5, 5, 9, 9, 9, 1]], category_id=None), "category_id is None"),
    "coco: unknown category": (coco([[5, 5, 9, 9, 9, 1]], category_id=77), "which no category has"),
    "imagej: a line": (
        imagej(roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE)),
        "LINE covers no area",
    ),
    "imagej: points": (imagej(roi_of(roifile.ROI_TYPE.POINT, [[5, 5], [9, 9]])), "POINT covers no area"),
    "imagej: two points": (imagej(roi_of(roifile.ROI_TYPE.POLYGON, [[5, 5], [9, 9]])), "has 2 points"),
    "imagej: NaN": (imagej(roi_of(roifile.ROI_TYPE.POLYGON, [[5, 5], [9, 9], [np.nan, 1]])), "NaN"),
    "imagej: far outside": (
        imagej(roi_of(roifile.ROI_TYPE.POLYGON, [[900, 5], [990, 9], [900, 9]])),
        "outside the image",
    ),
    "imagej: 0 bytes": (imagej(b""), "cannot be read"),
    "imagej: cut off": (imagej(roi_of(roifile.ROI_TYPE.FREEHAND, OUTSIDE).tobytes()[:70]), "cannot be read"),
    "instances: 0 bytes": (instances(b""), "cannot be read"),
    "instances: no picture": (instances(b"broken"), "cannot be read"),
}


@pytest.mark.parametrize("name", INVALID)
def test_one_invalid_entry_is_left_out_and_the_image_stays(tmp_path, name):
    add, message = INVALID[name]
    form = name.partition(":")[0]
    path = write_dataset(form, tmp_path, {"cell0": (cells()[1], {})})
    add(tmp_path)
    truth, findings = checked(path, form)
    assert list(findings) == ["invalid_outlines"]
    # The remedy follows in the report.
    assert "; " not in findings["invalid_outlines"]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(findings["invalid_outlines"])
    np.testing.assert_array_equal(truth.labels > 0, cells()[1] > 0)
    assert truth.num_instances == 8


def test_an_object_without_a_class_is_ignored(tmp_path):
    write_dataset("voc", tmp_path, {"cell0": (cells()[1], {})})
    voc_without_class(tmp_path)
    truth, findings = checked(tmp_path, "voc")
    assert "object 8 has no class" in findings["invalid_outlines"]
    assert truth.num_instances == 7
    np.testing.assert_array_equal(truth.semantic == IGNORE, cells()[1] == 8)


def test_an_object_that_is_void_counts_as_hidden(tmp_path):
    labels = cells()[1]
    write_dataset("voc", tmp_path, {"cell0": (labels, {})})
    Image.fromarray(np.where(labels == 8, 255, labels > 0).astype(np.uint8)).save(
        tmp_path / "SegmentationClass" / "cell0.png"
    )
    truth, findings = checked(tmp_path, "voc")
    assert findings == {"hidden_instances": "1 of the outlines or masks"}
    assert truth.num_instances == 7


# Of valid and invalid entries of one image, whether the image stays.
COUNTS = {(8, 1): True, (3, 1): True, (1, 1): True, (0, 1): False, (6, 2): True, (5, 2): False, (2, 2): False}


@pytest.mark.parametrize(("valid", "invalid"), COUNTS)
def test_many_invalid_entries_set_the_image_aside_unless_accepted(tmp_path, valid, invalid):
    labels = cells()[1]
    labels[labels > valid] = 0
    write_dataset("labelme", tmp_path, {"cell0": (labels, {})})
    for _ in range(invalid):
        labelme(shape_of([[5, 5], [9, 9]]))(tmp_path)
    raw = opened(tmp_path, "labelme").read("cell0", SHAPE)
    truth, findings = check_annotation(raw, SHAPE, num_classes=2)
    assert truth.num_instances == valid
    assert is_excluded(findings) != COUNTS[valid, invalid]
    assert not is_excluded(findings, {"many_invalid_outlines", "empty_mask"})


def written(tmp_path, form):
    write_cells(tmp_path / "images")
    drawn = {f"cell{index}": (cells(index)[1], {}) for index in range(6)}
    return write_dataset(form, tmp_path / "masks", drawn)


def report_of(tmp_path, masks, **options):
    request = Request(images=str(tmp_path / "images"), masks=str(masks), out=str(tmp_path / "out"), **options)
    prepare_folder(request, workers=0, previews=False)
    return json.loads((tmp_path / "out" / "report" / "quality.json").read_text())


@pytest.mark.parametrize(("form", "bad"), [("labelme", labelme(3)), ("qupath", qupath(3))])
def test_prepare_keeps_the_image_and_reports_the_entry(tmp_path, form, bad):
    masks = written(tmp_path, form)
    bad(masks)
    report = report_of(tmp_path, masks)
    assert report["images"] == {"kept": 5, "repaired": 1, "quarantined": 0}
    assert [entry["image"] for entry in report["findings"]["invalid_outlines"]] == ["cell0"]
    # The names of the classes in the file still count.
    assert report["class_names"] == ["background", "cell"]


# A mark that is no cell and has a class of its own.
MARKS = {
    "labelme": labelme(shape_of([[5, 5], [9, 9]], "line", label="scale bar")),
    "labelme: a polygon of two points": labelme(shape_of([[5, 5], [9, 9]], label="scale bar")),
    "qupath": qupath(
        feature_of([[5, 5], [9, 9]], "LineString", properties={"classification": {"name": "scale bar"}})
    ),
    "qupath: a polygon of two points": qupath(
        feature_of([[[5, 5], [9, 9]]], properties={"classification": {"name": "scale bar"}})
    ),
}


@pytest.mark.parametrize("names", [None, ("background", "cell")])
@pytest.mark.parametrize("name", MARKS)
def test_the_class_of_a_mark_is_no_class_of_cells(tmp_path, name, names):
    form = name.partition(":")[0]
    write_dataset(form, tmp_path, {"cell0": (cells()[1], {})})
    MARKS[name](tmp_path)
    annotations = open_annotations(tmp_path, format=form, class_names=names)
    assert annotations.class_names == ("background", "cell")
    drawing = annotations.read("cell0", SHAPE)
    assert len(drawing.classes) == 8
    assert len(drawing.invalid) == 1


RECTANGLE = [[20, 30], [50, 40]]
FOUR = [[20, 30], [50, 30], [50, 40], [20, 40]]


def turned(angle):
    """Corners of the rectangle, turned about its centre by degrees."""
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    centred = np.array(FOUR) - [35, 35]
    return (centred @ [[cos, sin], [-sin, cos]] + [35, 35]).tolist()


# Shapes of LabelMe and of X-AnyLabeling, which has four corners, and the corners of the area that they cover.
CORNERS = {
    "rectangle of two points": (shape_of(RECTANGLE, "rectangle"), 0),
    "rectangle of four points": (shape_of(FOUR, "rectangle"), 0),
    "from another corner": (shape_of(FOUR[2:] + FOUR[:2], "rectangle"), 0),
    "crossed": (shape_of([FOUR[0], FOUR[2], FOUR[1], FOUR[3]], "rectangle"), 0),
    "counter-clockwise": (shape_of(FOUR[::-1], "rectangle"), 0),
    "turned rectangle of four points": (shape_of(turned(30), "rectangle"), 30),
    "rotation": (shape_of(turned(30), "rotation", direction=0.52), 30),
    "rotation by 90 degrees": (shape_of(turned(90), "rotation", direction=1.57), 90),
    "oriented rectangle": (shape_of(turned(-20), "oriented_rectangle"), -20),
    "quadrilateral": (shape_of(turned(45), "quadrilateral"), 45),
    "rotation of 0": (shape_of(RECTANGLE, "rectangle", rotation=0), 0),
}


def distance_from(angle, half_width, half_height, centre=(35, 35)):
    """Distance of the pixels from a turned rectangle, in pixels; negative inside."""
    rows, columns = np.indices(SHAPE)
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    x, y = columns - centre[0], rows - centre[1]
    return np.maximum(np.abs(x * cos + y * sin) - half_width, np.abs(y * cos - x * sin) - half_height)


@pytest.mark.parametrize("name", CORNERS)
def test_rectangles_of_labelme_have_two_or_four_corners(tmp_path, name):
    shape, angle = CORNERS[name]
    write_dataset("labelme", tmp_path, {"cell0": (np.zeros(SHAPE, int), {})})
    labelme(shape)(tmp_path)
    drawing = opened(tmp_path, "labelme").read("cell0", SHAPE)
    assert drawing.invalid == ()
    distance = distance_from(angle, 15, 5)
    # Pixels under the line belong to the shape; Pillow rounds the ends of the line.
    assert (drawing.labels[distance < -0.75] == 1).all()
    assert (drawing.labels[distance > 1.3] == 0).all()
    if angle == 0:
        assert (drawing.labels == 1).sum() == 31 * 11


def test_a_rotated_rectangle_is_cut_off_at_the_border(tmp_path):
    write_dataset("labelme", tmp_path, {"cell0": (np.zeros(SHAPE, int), {})})
    corners = (np.array(turned(30)) + np.array([85, 50])).tolist()
    labelme(shape_of(corners, "rotation"))(tmp_path)
    drawing = opened(tmp_path, "labelme").read("cell0", SHAPE)
    assert max(x for x, _ in corners) > SHAPE[1] + 2
    assert drawing.invalid == ()
    distance = distance_from(30, 15, 5, (120, 85))
    assert (drawing.labels[distance < -0.75] == 1).all()
    assert (drawing.labels[distance > 1.3] == 0).all()


def fitted(subtype, axis, number):
    """A rotated rectangle or ellipse of ImageJ: the ends of its axis, a number, and coarse points."""
    roi = roi_of(roifile.ROI_TYPE.FREEHAND, [[20, 30], [50, 30], [50, 40], [20, 40]])
    (roi.x1, roi.y1), (roi.x2, roi.y2) = axis
    roi.subtype = subtype
    style, size, *rest = np.array([number], ">f4").tobytes()
    roi.arrow_style_or_aspect_ratio, roi.arrow_head_size = style, size
    roi.rounded_rect_arc_size = int.from_bytes(bytes(rest), "big", signed=True)
    return roi


def axis_of(angle, length=30, centre=(60, 48)):
    along = length / 2 * np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    return (centre - along).tolist(), (centre + along).tolist()


def read_roi(tmp_path, roi):
    write_dataset("imagej", tmp_path, {"cell0": (np.zeros(SHAPE, int), {})})
    imagej(roi)(tmp_path)
    drawing = opened(tmp_path, "imagej").read("cell0", SHAPE)
    assert drawing.invalid == ()
    return drawing.labels == 1


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_rotated_rectangles_of_imagej(tmp_path, angle):
    mask = read_roi(tmp_path, fitted(roifile.ROI_SUBTYPE.ROTATED_RECT, axis_of(angle), 11.0))
    # Pixel edges lie at integers.
    distance = distance_from(angle, 15, 5.5, (59.5, 47.5))
    np.testing.assert_array_equal(mask[abs(distance) > 1e-6], distance[abs(distance) > 1e-6] < 0)


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_rotated_ellipses_of_imagej(tmp_path, angle):
    mask = read_roi(tmp_path, fitted(roifile.ROI_SUBTYPE.ELLIPSE, axis_of(angle), 0.4))
    rows, columns = np.indices(SHAPE)
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    x, y = columns - 59.5, rows - 47.5
    inside = ((x * cos + y * sin) / 15) ** 2 + ((y * cos - x * sin) / 6) ** 2
    np.testing.assert_array_equal(mask[abs(inside - 1) > 0.01], inside[abs(inside - 1) > 0.01] < 1)


def test_a_spline_of_imagej_is_round(tmp_path):
    """Of a fitted spline ImageJ saves the few points it passes through."""
    angles = np.arange(8) * np.pi / 4
    points = np.stack([60 + 30 * np.cos(angles), 48 + 30 * np.sin(angles)], axis=1)
    roi = roi_of(roifile.ROI_TYPE.POLYGON, points)
    roi.options |= roifile.ROI_OPTIONS.SPLINE_FIT
    mask = read_roi(tmp_path, roi)
    rows, columns = np.indices(SHAPE)
    radius = np.hypot(rows - 47.5, columns - 59.5)
    assert mask[radius < 29.5].all()
    assert not mask[radius > 30.5].any()


def test_a_rectangle_of_imagej_with_round_corners(tmp_path):
    roi = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, left=40, top=30, right=80, bottom=60, rounded_rect_arc_size=20
    )
    mask = read_roi(tmp_path, roi)
    rows, columns = np.indices(SHAPE) + 0.5
    # Distance from the inner rectangle to which the arcs of radius 10 belong.
    x, y = np.maximum(np.abs(columns - 60) - 10, 0), np.maximum(np.abs(rows - 45) - 5, 0)
    distance = np.hypot(x, y)
    assert mask[distance < 9.9].all()
    assert not mask[distance > 10.1].any()


# The damage of a file, and words of the advice that fits.
ADVICE = {
    "labelme: no JSON": ("labelme", "cell0.json", b"{", "export the annotation again"),
    "labelme: a list": ("labelme", "cell0.json", b"[]", "export the annotation again"),
    "labelme: another image": (
        "labelme",
        "cell0.json",
        b'{"imageHeight": 96, "imageWidth": 128, "imagePath": "b.png", "shapes": []}',
        "export the annotation again",
    ),
    "labelme: another size": (
        "labelme",
        "cell0.json",
        b'{"imageHeight": 9, "imageWidth": 12}',
        "at the size",
    ),
    "qupath: no JSON": ("qupath", "cell0.geojson", b"", "export the annotation again"),
    "qupath: a number": ("qupath", "cell0.geojson", b"3", "export the annotation again"),
    "qupath: mixed types": (
        "qupath",
        "cell0.geojson",
        json.dumps(
            [
                feature_of([], properties={"objectType": "annotation"}),
                feature_of([], properties={"objectType": "cell"}),
            ]
        ).encode(),
        "export the annotation again",
    ),
    "imagej: no zip": ("imagej", "cell0.zip", b"PK", "export the annotation again"),
    "labels: no picture": ("labels", "cell0_masks.tif", b"broken", "PNG or TIFF"),
    "labels: cut off": ("labels", "cell0_masks.tif", None, "copy the file again"),
    "colours: no picture": ("colours", "cell0.png", b"broken", "PNG or TIFF"),
}


def remedy_of(error):
    return KINDS[finding_of(error).kind].remedy


@pytest.mark.parametrize("name", ADVICE)
def test_the_advice_fits_the_file(tmp_path, name):
    form, file, content, advice = ADVICE[name]
    drawn = {"cell0": (cells()[1], {}), "cell1": (cells(1)[1], {})}
    write_dataset(form, tmp_path, drawn)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(InputError) as caught:
        opened(tmp_path, form).read("cell0", SHAPE)
    assert advice in remedy_of(caught.value)


@pytest.mark.parametrize("form", ["labelme", "qupath", "imagej", "labels", "coco"])
@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")]
)
def test_a_file_that_the_system_refuses_is_not_to_be_saved_again(tmp_path, form, error, monkeypatch):
    # Whoever is root may read everything, so the system cannot be asked to refuse.
    path = write_dataset(form, tmp_path, {"cell0": (cells()[1], {})})
    annotations = opened(path, form)

    def refuse(*args, **kwargs):
        raise error

    for name in ("open", "read_bytes"):
        monkeypatch.setattr(f"pathlib.Path.{name}", refuse)
    if form == "coco":
        with pytest.raises(InputError, match=rf"annotations\.json cannot be read \({error.strerror}\)"):
            opened(path, form)
        return
    for name in ("tifffile.TiffFile", "zipfile.ZipFile"):
        monkeypatch.setattr(f"{name}.__init__", refuse)
    with pytest.raises(InputError, match=error.strerror) as caught:
        annotations.read("cell0", SHAPE)
    expected = "change its permissions" if error.errno == 13 else "copy the file"
    assert expected in remedy_of(caught.value)


# What the system says, the advice to somebody who predicts, and that of the report of a preparation.
REFUSED = {
    "permission": (
        PermissionError(13, "Permission denied"),
        "change its permissions",
        "change its permissions",
    ),
    "disk": (OSError(5, "Disk error"), "check the disk", "check the disk"),
    "missing": (FileNotFoundError(2, "No such file"), "or repair the link", "copy the file again"),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".npy"])
@pytest.mark.parametrize("name", REFUSED)
def test_the_advice_for_an_image_that_the_system_refuses(tmp_path, monkeypatch, name, suffix):
    error, advice, remedy = REFUSED[name]
    path = tmp_path / f"a{suffix}"
    np.save(path, cells()[0]) if suffix == ".npy" else Image.fromarray(cells()[0]).save(path)

    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("pathlib.Path.open", refuse)
    monkeypatch.setattr("numpy.load", refuse)
    monkeypatch.setattr("tifffile.TiffFile.__init__", refuse)
    read = read_image if suffix == ".jpg" else read_labels
    for each in (read_image, read):
        with pytest.raises(InputError, match=rf"cannot be read \({error.strerror}\); .*{advice}") as caught:
            each(path)
        assert remedy in remedy_of(caught.value)
    (finding,) = check_file(path)
    assert remedy in KINDS[finding.kind].remedy
    assert "Errno" not in finding.detail


# An accent as one character, and as macOS stores it.
ACCENT, DECOMPOSED = "\u00e9cell", "e\u0301cell"


@pytest.mark.parametrize(("file", "written"), [(ACCENT, DECOMPOSED), (DECOMPOSED, ACCENT)], ids=ascii)
def test_names_with_accents_are_those_of_the_images(tmp_path, file, written):
    image = tmp_path / f"{file}.png"
    Image.fromarray(cells()[0]).save(image)
    write_dataset("labelme", tmp_path, {file: (cells()[1], {})})
    edit(tmp_path / f"{file}.json", lambda document: document.update(imagePath=f"{written}.png"))
    assert opened(tmp_path, "labelme").read(file, SHAPE).labels.max() == 8
    table = tmp_path / "table.csv"
    table.write_text(f"image,patient\n{written}.png,one\n", encoding="utf-8")
    assert list_items(tmp_path, metadata=table)[1][0].group == "one"


# The content of a table, None for one that cannot be opened, and the advice.
TABLES = {
    "no permission": (None, "change its permissions"),
    "Excel": (b"PK\x03\x04\xff\xfe", "save it as CSV in UTF-8"),
    "another encoding": ("image,patient\ncell0,M\u00fcller\n".encode("latin-1"), "save it as CSV in UTF-8"),
    "a field without end": (b"image,patient\n" + b"x" * 200_000, "save it as CSV in UTF-8"),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_advice_for_a_table_that_cannot_be_read(tmp_path, monkeypatch, images, name):
    content, advice = TABLES[name]
    table = tmp_path / "table.csv"
    if content is None:

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied", str(table))

        monkeypatch.setattr("pathlib.Path.open", refuse)
    else:
        table.write_bytes(content)
    with pytest.raises(InputError, match=rf"--metadata=.*table\.csv cannot be read .*{advice}") as caught:
        list_items(images, metadata=table)
    assert "Errno" not in str(caught.value)
