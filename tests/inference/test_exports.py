"""Every export is read back by another library."""

import base64
import json
import zipfile
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
import tifffile
import zarr
from PIL import Image
from pyarrow import parquet
from roifile import ImagejRoi, roiread

from segjax.errors import InputError
from segjax.inference.exports import imagej, label_images, ome, pictures
from segjax.inference.exports.cells import Cells
from segjax.inference.exports.geojson import write_geojson
from segjax.inference.exports.geoparquet import write_geoparquet
from segjax.inference.exports.marks import has_mark
from segjax.inference.neighbours import Radius
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE
from tests.datasets.formats.written import cells as made_up

NAMES = ("background", "nucleus", "micro/nucleus")
SHAPE = (61, 83)


def example(shape=SHAPE, **fields):
    """Cells that touch, have holes, and consist of parts, with their image."""
    drawn, classes = made_up(3, shape, num_classes=3)
    drawn[0, 0] = drawn[5, 5] = 99  # one cell of two parts
    classes[99] = 2
    rng = np.random.default_rng(0)
    ids = np.unique(drawn[drawn > 0]).tolist()
    segmentation = Segmentation.from_labels(
        drawn, classes=[classes[index] for index in ids], scores=rng.random(len(ids))
    )
    image = rng.integers(0, 4000, (*shape, 2)).astype(np.uint16)
    return Cells(
        "a/b.tif",
        image,
        segmentation,
        NAMES,
        display=lambda image: np.repeat(image[..., :1] // 16, 3, -1).astype(np.uint8),
        colour_of=lambda index: (10 * index, 20, 255),
        **fields,
    )


def painted(shapes, shape=SHAPE):
    """A label map of shapely's polygons: the pixels whose centres are inside."""
    y, x = np.indices(shape) + 0.5
    labels = np.zeros(shape, int)
    for number, polygon in enumerate(shapes, 1):
        labels[shapely.contains_xy(polygon, x, y)] = number
    return labels


def even_odd(rings):
    shape = shapely.Polygon()
    for ring in rings:
        shape = shape ^ shapely.Polygon(ring)
    return shape


def test_label_images(tmp_path):
    semantic = np.array([[1, 2, IGNORE]])
    few = Segmentation.from_labels(np.array([[1, 2, 0]]), classes=[1, 2], semantic=semantic)
    assert label_images.label_image(few).dtype == np.uint16
    label_images.write_tiff(label_images.class_image(few), tmp_path / "classes.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "classes.tif"), [[1, 2, 255]])
    many = Segmentation.from_labels(np.arange(300 * 300).reshape(300, 300))
    label_images.write_tiff(label_images.label_image(many), tmp_path / "many.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "many.tif"), many.labels)
    cells = example(uncertainty=np.full(SHAPE, 0.25, np.float16))
    label_images.write_uncertainty(cells, tmp_path / "u.tif")
    assert (tifffile.imread(tmp_path / "u.tif") == 0.25).all()
    label_images.write_frame(cells, tmp_path / "mask000.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask000.tif"), cells.segmentation.labels)


def test_a_frame_has_at_most_65535_cells(tmp_path):
    many = Segmentation.from_labels(np.arange(300 * 300).reshape(300, 300))
    cells = Cells("a.tif", np.zeros((300, 300, 1)), many, NAMES, lambda image: image, lambda index: (0, 0, 0))
    with pytest.raises(InputError, match=r"a\.tif has 89999 cells.*leave ctc out"):
        label_images.write_frame(cells, tmp_path / "mask000.tif")


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 48 pixels, so that small images have several levels."""
    monkeypatch.setattr(ome, "TILE", 48)


def test_ome_tiff_has_ids_classes_levels_and_the_pixel_size(tmp_path, small_tiles):
    cells = example((70, 150), pixel_size=0.25)
    ome.write_ome_tiff(cells, tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        series = tiff.series[0]
        assert (series.axes, len(series.levels)) == ("CYX", 3)
        assert 'PhysicalSizeX="0.25"' in tiff.ome_metadata
        np.testing.assert_array_equal(series.asarray()[0], cells.segmentation.labels)
        np.testing.assert_array_equal(series.asarray()[1], cells.segmentation.class_map)
        np.testing.assert_array_equal(series.levels[1].asarray()[0], cells.segmentation.labels[::2, ::2])
        assert tiff.pages.first.is_tiled


@pytest.mark.parametrize("pixel_size", [None, 0.25])
def test_ome_zarr_has_the_image_and_its_cells(tmp_path, small_tiles, pixel_size):
    cells = example((70, 150), pixel_size=pixel_size)
    ome.write_ome_zarr(cells, tmp_path / "a.ome.zarr")
    root = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    np.testing.assert_array_equal(root["0"][:], np.moveaxis(cells.image, -1, 0))
    assert root["0"].dtype == np.uint16
    assert root["labels"].attrs["ome"]["labels"] == ["cells"]
    label = root["labels/cells"]
    np.testing.assert_array_equal(label["0"][:], cells.segmentation.labels)
    np.testing.assert_array_equal(label["1"][:], cells.segmentation.labels[::2, ::2])
    about = label.attrs["ome"]
    (scales,) = about["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["y", "x"]
    side = pixel_size or 1.0
    found = [level["coordinateTransformations"][0]["scale"] for level in scales["datasets"]]
    assert found == [[side, side], [2 * side, 2 * side], [4 * side, 4 * side]]
    assert about["image-label"]["properties"][0]["class"] in NAMES
    assert about["image-label"]["colors"][0]["rgba"][1:] == [20, 255, 255]


def test_geojson_is_what_qupath_reads(tmp_path):
    cells = example(uncertainty=np.full(SHAPE, 0.25, np.float16))
    write_geojson(cells, tmp_path / "a.geojson")
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    assert all(shape.is_valid for shape in shapes)
    np.testing.assert_array_equal(painted(shapes), cells.segmentation.labels)
    assert {feature["geometry"]["type"] for feature in features} == {"Polygon", "MultiPolygon"}
    for index, feature in enumerate(features):
        parts = feature["geometry"]["coordinates"]
        if feature["geometry"]["type"] == "Polygon":
            parts = [parts]
        else:
            assert len(parts) > 1
        assert all(ring[0] == ring[-1] for part in parts for ring in part)
        properties = feature["properties"]
        number = int(cells.segmentation.classes[index])
        assert properties["classification"] == {"name": NAMES[number], "color": [10 * number, 20, 255]}
        assert properties["measurements"]["score"] == pytest.approx(
            cells.segmentation.scores[index], abs=1e-6
        )
        assert properties["measurements"]["uncertainty"] == 0.25
    assert len({feature["id"] for feature in features}) == len(features)
    before = (tmp_path / "a.geojson").read_bytes()
    write_geojson(example(uncertainty=np.full(SHAPE, 0.25)), tmp_path / "a.geojson")
    assert (tmp_path / "a.geojson").read_bytes() == before


def test_rois_are_read_by_roifile(tmp_path):
    cells = example()
    imagej.write_imagej(cells, tmp_path / "a_rois.zip")
    rois = roiread(tmp_path / "a_rois.zip")
    shapes = [even_odd(roi.coordinates(multi=True)) for roi in rois]
    np.testing.assert_array_equal(painted(shapes), cells.segmentation.labels)
    assert [roi.group for roi in rois] == cells.segmentation.classes.tolist()
    assert rois[0].stroke_color == bytes([255, 10 * rois[0].group, 20, 255])
    assert any(roi.composite for roi in rois)
    assert not all(roi.composite for roi in rois)


def test_rois_reach_up_to_their_largest_coordinate(tmp_path):
    labels = np.zeros((3, imagej.LARGEST + 1), np.uint8)
    labels[:, -8:] = 1
    for count in (imagej.LARGEST, imagej.LARGEST + 1):
        part = labels[:, -count:]
        segmentation = Segmentation.from_labels(part)
        cells = Cells(
            "a.tif", part[..., None], segmentation, NAMES, lambda image: image, lambda index: (0,) * 3
        )
        if count > imagej.LARGEST:
            with pytest.raises(InputError, match=r"a\.tif has 60536 pixels .*leave imagej out"):
                imagej.write_imagej(cells, tmp_path / "a_rois.zip")
        else:
            imagej.write_imagej(cells, tmp_path / "a_rois.zip")
            roi = roiread(tmp_path / "a_rois.zip")
            roi = roi[0] if isinstance(roi, list) else roi
            assert isinstance(roi, ImagejRoi)
            assert roi.coordinates().max(0).tolist() == [imagej.LARGEST, 3]


def test_geoparquet_has_outlines_and_measurements(tmp_path):
    cells = example(pixel_size=0.5, radius=Radius(10, "um"), uncertainty=np.full(SHAPE, 0.25, np.float16))
    write_geoparquet(cells, tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    shapes = shapely.from_wkb(table["geometry"].to_pylist())
    assert shapely.is_valid(shapes).all()
    np.testing.assert_array_equal(painted(shapes), cells.segmentation.labels)
    np.testing.assert_array_equal(shapely.area(shapes), table["area_px"])
    np.testing.assert_allclose(table["area_um2"], np.array(table["area_px"]) / 4)
    assert table["uncertainty"].to_pylist() == [0.25] * len(shapes)
    assert max(table["neighbours_within_10_um"].to_pylist()) > 0
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["columns"][geo["primary_column"]] == {
        "encoding": "WKB",
        "geometry_types": ["Polygon", "MultiPolygon"],
        "crs": None,
    }
    assert table.schema.field("area_um2").metadata == {b"unit": b"square micrometre"}


def test_svg_has_a_path_for_each_cell_above_the_image(tmp_path):
    cells = example()
    pictures.write_svg(cells, tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    shapes = {}
    for group in root.iter(f"{space}g"):
        assert group.get("class") in NAMES
        for path in group.iter(f"{space}path"):
            lines = [line.removeprefix("M").split() for line in path.get("d").split(" Z") if line.strip()]
            lines = [[word.removeprefix("M") for word in line if word != "M"] for line in lines]
            rings = [[tuple(map(int, word.split(","))) for word in line] for line in lines]
            shapes[int(path.get("id").removeprefix("cell-"))] = even_odd(rings)
    np.testing.assert_array_equal(painted([shapes[key] for key in sorted(shapes)]), cells.segmentation.labels)
    (image,) = root.iter(f"{space}image")
    encoded = image.get("href").removeprefix("data:image/png;base64,")
    with Image.open(BytesIO(base64.b64decode(encoded))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), cells.picture)


def test_cutouts_laid_at_their_offsets_are_the_cells(tmp_path):
    cells = example()
    pictures.write_cutouts(cells, tmp_path / "a_cutouts.zip")
    labels, drawn = np.zeros(SHAPE, int), np.zeros((*SHAPE, 3), np.uint8)
    with zipfile.ZipFile(tmp_path / "a_cutouts.zip") as archive:
        names = archive.namelist()
        for number, name in enumerate(names, 1):
            content = archive.read(name)
            with Image.open(BytesIO(content)) as picture:
                pixels = np.asarray(picture)
            left, top = np.frombuffer(content.partition(b"oFFs")[2][:8], ">i4").tolist()
            window = (slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1]))
            inside = pixels[..., 3] == 255
            labels[window][inside] = number
            drawn[window][inside] = pixels[inside, :3]
    np.testing.assert_array_equal(labels, cells.segmentation.labels)
    np.testing.assert_array_equal(drawn[labels > 0], cells.picture[labels > 0])
    assert {name.partition("_")[2] for name in names} == {"nucleus.png", "micro_nucleus.png"}


WRITERS = {
    "a_labels.tif": label_images.write_labels,
    "a.ome.tif": ome.write_ome_tiff,
    "a.ome.zarr": ome.write_ome_zarr,
    "a.geojson": write_geojson,
    "a_rois.zip": imagej.write_imagej,
    "a.parquet": write_geoparquet,
    "a.svg": pictures.write_svg,
    "a_cutouts.zip": pictures.write_cutouts,
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_have_a_mark_and_an_image_without_cells_has_them_too(tmp_path, name):
    path = tmp_path / name
    empty = Segmentation.empty((5, 7))
    nothing = Cells(
        "a.tif", np.zeros((5, 7, 1), bool), empty, NAMES, pictures_of, lambda index: (0, 0, 0), pixel_size=1.0
    )
    for cells in (example(), nothing):
        WRITERS[name](cells, path)
        assert has_mark(path)
        assert [file.name for file in tmp_path.iterdir()] == [name]
    if path.is_dir():
        (path / "labels/corrected").mkdir()
    else:
        path.write_bytes(b"of another program")
    assert not has_mark(path)


def pictures_of(image):
    return np.zeros((*image.shape[:2], 3), np.uint8)
