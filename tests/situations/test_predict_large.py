"""Predictions of images that are read and written in parts."""

import csv
import errno
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
import zarr
from pyarrow import parquet
from shapely import from_wkb
from shapely.geometry import shape

from segjax.classical.measurements import measure
from segjax.data.preprocess import Preprocessing
from segjax.errors import InputError, Interrupted
from segjax.experiment import prediction_large
from segjax.experiment.export_formats import Exports
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.prediction import predict
from segjax.experiment.prediction_inputs import Reading
from segjax.experiment.prediction_view import View
from segjax.inference.exports.marks import has_mark
from segjax.inference.large import methods, store
from segjax.inference.large.files import SIDE
from segjax.inference.large.grid import Tile
from segjax.inference.predictor import create_predictor
from segjax.inference.settings import PredictConfig
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import connected_parts
from tests.inference.large.test_stitching import discs, same

SHAPE = (700, 900)
ALL = ("ome-tiff", "ome-zarr", "csv", "parquet", "geojson")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small tiles, and a small limit above which images are large."""
    monkeypatch.setattr(prediction_large, "MAX_PIXELS", 500 * 500)
    monkeypatch.setattr(methods, "PLAIN_CORE", 256)
    monkeypatch.setattr(methods, "PLAIN_HALO", 32)
    monkeypatch.setattr(methods, "SIDE", 400)
    monkeypatch.setattr(prediction_large, "MEASURED_BOX", 256)
    # Each device compiles the network.
    two = jax.local_devices()[:2]
    monkeypatch.setattr(jax, "local_devices", lambda **_: two)


def bright(image):
    return Segmentation.from_labels(connected_parts(image[..., 0] > 100))


PLAIN = OpenedMethod(bright, ("background", "cell"), digest="bright")


def network(**config):
    """A network that blurs the image; instances are the connected parts where that is bright."""

    def blur(params, images):
        kernel = jnp.ones((5, 5, 1, 1)) / 25
        blurred = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return {"p": blurred[..., 0] * params}

    class Task:
        predict = staticmethod(blur)
        stride = 4

        def segment(self, outputs):
            return Segmentation.from_labels(connected_parts(outputs["p"] > 0.5))

    predictor = create_predictor(
        Task(), jnp.float32(1), prepare=Preprocessing(), config=PredictConfig(tile=128, overlap=16, **config)
    )
    return OpenedMethod(predictor, ("background", "cell"), 1, digest=f"blur {config}")


@pytest.fixture
def image(tmp_path):
    """An image of discs that touch the seams of tiles, and its labels."""
    labels = discs(SHAPE, 90, 12)
    labels = connected_parts(labels > 0)
    path = tmp_path / "images" / "slide.tif"
    path.parent.mkdir()
    pixels = np.where(labels > 0, 200, 20).astype(np.uint8)
    options = {"tile": (64, 64), "compression": "zlib", "metadata": None}
    tifffile.imwrite(path, pixels, resolution=(20_000, 20_000), resolutionunit="centimeter", **options)
    return path, pixels, labels


def run(path, out, method=PLAIN, formats=ALL, view=View(), **exports):
    made = predict(method, path, out, exports=Exports(formats, **exports), reading=Reading(view=view))
    assert len(list(made)) == 1
    return made


def ids(out):
    return tifffile.imread(out / "slide_cells.ome.tif")[0]


def rows_of(out):
    with (out / "slide_measurements.csv").open() as file:
        return list(csv.DictReader(file))


def contents(out):
    files = sorted(path for path in out.glob("slide*/**/*") if path.is_file())
    files += [path for path in out.glob("slide*") if path.is_file()]
    return {path.relative_to(out): path.read_bytes() for path in files}


def test_every_file_has_the_cells_of_the_image(image, tmp_path):
    path, pixels, labels = image
    out = tmp_path / "out"
    run(path, out)
    result = ids(out).astype(np.int32)
    assert same(result, labels)
    with tifffile.TiffFile(out / "slide_cells.ome.tif") as file:
        levels = file.series[0].levels
        assert [level.shape for level in levels] == [(2, 700, 900), (2, 350, 450), (2, 175, 225)]
        np.testing.assert_array_equal(levels[2].asarray()[0], result[::4, ::4])
        np.testing.assert_array_equal(levels[0].asarray()[1], labels > 0)
        stored = zarr.open_array(levels[1].aszarr(), mode="r")
        np.testing.assert_array_equal(stored[0, 300:, 400:], result[600::2, 800::2])
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata
    group = zarr.open_group(out / "slide_cells.ome.zarr", mode="r")
    for level, stored in enumerate(group[str(number)] for number in range(3)):
        np.testing.assert_array_equal(stored[:], result[:: 2**level, :: 2**level])
    scales = group.attrs["ome"]["multiscales"][0]
    assert [one["coordinateTransformations"][0]["scale"] for one in scales["datasets"]] == [
        [0.5, 0.5],
        [1.0, 1.0],
        [2.0, 2.0],
    ]
    assert scales["axes"][0] == {"name": "y", "type": "space", "unit": "micrometer"}
    count = int(result.max())
    expected = measure(
        pixels[..., None],
        Segmentation.from_labels(result),
        pixel_size=0.5,
        class_names=("background", "cell"),
    )
    table = parquet.read_table(out / "slide_cells.parquet").to_pydict()
    rows = rows_of(out)
    assert [*rows[0], "geometry"] == [*table]
    assert len(rows) == len(table["id"]) == count
    for name, values in expected.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(table[name], values, rtol=1e-9, atol=1e-9, err_msg=name)
            np.testing.assert_allclose([float(row[name]) for row in rows], values, rtol=1e-6, atol=1e-9)
        else:
            np.testing.assert_array_equal(table[name], values, name)
    features = json.loads((out / "slide_cells.geojson").read_text())["features"]
    assert [one["properties"]["measurements"]["label"] for one in features] == [*range(1, count + 1)]
    areas = [shape(one["geometry"]).area for one in features]
    np.testing.assert_array_equal(areas, expected["area_px"])


def test_another_pixel_size_needs_no_other_tiles(image, tmp_path, monkeypatch):
    path, pixels, _ = image
    # A cell of several tiles is measured again.
    pixels[100:600, 300:310] = 200
    tifffile.imwrite(path, pixels, tile=(64, 64))
    out, decoded = tmp_path / "out", []
    decode = methods.PlainTiles.decode
    monkeypatch.setattr(
        methods.PlainTiles, "decode", lambda *inputs: decoded.append(inputs[2]) or decode(*inputs)
    )
    run(path, out, formats=("csv",))
    without = (out / "slide_measurements.csv").read_bytes()
    assert b"_um" not in without
    for size in (0.5, 0.25):
        run(path, out, formats=("csv",), pixel_size=size)
        for row in rows_of(out):
            assert float(row["area_um2"]) == pytest.approx(float(row["area_px"]) * size**2)
            assert float(row["perimeter_um"]) == pytest.approx(float(row["perimeter_px"]) * size)
    # Tiles of an earlier version have micrometres.
    for file in out.rglob("*.tile"):
        tile, tiles = Tile(*map(int, file.stem.split("_")), None, None), store.TileStore(file.parent)
        old = tiles.read(tile)
        tiles.write(tile, old._replace(table={**old.table, "area_um2": np.zeros(len(old.classes))}))
    run(path, out, formats=("csv",))
    assert (out / "slide_measurements.csv").read_bytes() == without
    assert len(decoded) == 12


def test_a_method_without_a_digest_does_not_take_the_tiles_of_another(image, tmp_path):
    out = tmp_path / "out"
    run(image[0], out, OpenedMethod(bright))
    assert ids(out).any()
    run(image[0], out, OpenedMethod(lambda part: Segmentation.from_labels(np.zeros(part.shape[:2], int))))
    assert not ids(out).any()


def test_another_method_replaces_its_files_and_classes_need_no_names(image, tmp_path):
    path, _, _ = image
    run(path, tmp_path / "out")

    def of_class_two(pixels):
        labels = connected_parts(pixels[..., 0] > 100)
        return Segmentation.from_labels(labels, classes=np.full(labels.max(), 2))

    run(path, tmp_path / "out", OpenedMethod(of_class_two, digest="class two"))
    assert {row["class_name"] for row in rows_of(tmp_path / "out")} == {"class 2"}
    names = json.loads((tmp_path / "out/slide_cells.geojson").read_text())["features"]
    assert {cell["properties"]["classification"]["name"] for cell in names} == {"class 2"}
    # Labels that another program adds are not replaced.
    (tmp_path / "out/slide_cells.ome.zarr/labels/mine").mkdir(parents=True)
    assert not has_mark(tmp_path / "out/slide_cells.ome.zarr")


@pytest.mark.parametrize(
    "config", [{}, {"trained_diameter": 12.0, "diameter": 24.0}, {"trained_diameter": 30.0}], ids=str
)
def test_a_network_predicts_tiles_as_the_full_image(image, tmp_path, config):
    path, pixels, _ = image
    method = network(**config)
    run(path, tmp_path / "out", method, ("ome-tiff",))
    about = json.loads(next((tmp_path / "out/.segjax").glob("*.tiles/about.json")).read_text())
    if config.get("trained_diameter") and not config.get("diameter"):
        # The same scale, which both estimate, of other windows.
        factor = about["remembered"]["scale"]["factor"]
        method = network(trained_diameter=30.0, diameter=30.0 / factor)
    full = method(pixels)
    assert full.num_instances > 20
    # Apart from rounding of the resized image.
    assert same(ids(tmp_path / "out").astype(np.int32), full.labels)


def test_intensities_of_the_full_image_normalise_all_tiles(image, tmp_path):
    path, pixels, _labels = image
    dim = pixels.copy()
    # A tile of its own would be stretched to the full range.
    dim[:, 450:] = 20 + dim[:, 450:] // 8
    tifffile.imwrite(path, dim, tile=(64, 64))
    run(path, tmp_path / "out", network(), ("ome-tiff",))
    assert not ids(tmp_path / "out")[:, 460:].any()
    assert ids(tmp_path / "out")[:, :440].any()


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(image, tmp_path, monkeypatch):
    path, _, _ = image
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    run(path, tmp_path / "undisturbed")
    written = []

    class Killed(BaseException):
        pass

    def write(self, tile, stored):
        if len(written) == 7:
            (self._folder / ".0123456789abcdef0123456789abcdef.tile").write_bytes(b"half")
            raise Killed
        written.append(tile)
        original(self, tile, stored)

    original = store.TileStore.write
    monkeypatch.setattr(store.TileStore, "write", write)
    with pytest.raises(Killed):
        run(path, tmp_path / "killed")
    assert contents(tmp_path / "killed") == {}
    monkeypatch.setattr(store.TileStore, "write", original)
    predicted = []
    decode = methods.PlainTiles.decode
    monkeypatch.setattr(
        methods.PlainTiles, "decode", lambda *inputs: predicted.append(inputs[2]) or decode(*inputs)
    )
    run(path, tmp_path / "killed")
    assert len(predicted) == 12 - 7
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert len({name.parts[0] for name in contents(tmp_path / "killed")}) == len(ALL)
    # Nothing is segmented for a further format, or when nothing is missing.
    predicted.clear()
    (tmp_path / "killed/slide_cells.geojson").unlink()
    assert "1 of them" not in run(path, tmp_path / "killed").summary
    assert "(1 of them finished before)" in run(path, tmp_path / "killed").summary
    assert predicted == []
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def test_a_signal_ends_the_run_between_tiles(image, tmp_path, monkeypatch):
    path, _, _ = image

    def load(self, window):
        os.kill(os.getpid(), 15)
        return original(self, window)

    original = methods.PlainTiles.load
    monkeypatch.setattr(methods.PlainTiles, "load", load)
    with pytest.raises(Interrupted, match="the same command resumes"):
        run(path, tmp_path / "out")
    monkeypatch.setattr(methods.PlainTiles, "load", original)
    run(path, tmp_path / "out")
    assert same(ids(tmp_path / "out").astype(np.int32), image[2])
    # Its own table has the measurements.
    assert not (tmp_path / "out/measurements.csv").exists()


def test_a_full_disk_is_said_and_finished_tiles_stay(image, tmp_path, monkeypatch):
    written = []

    def write(self, tile, stored):
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(self._folder / "a.tile"))
        written.append(tile)
        original(self, tile, stored)

    original = store.TileStore.write
    monkeypatch.setattr(store.TileStore, "write", write)
    with pytest.raises(InputError, match=r"cannot be written: .*No space left.*free some space"):
        run(image[0], tmp_path / "out")
    assert len([*(tmp_path / "out").rglob("*.tile")]) == 5
    monkeypatch.setattr(store.TileStore, "write", original)
    run(image[0], tmp_path / "out")
    assert same(ids(tmp_path / "out").astype(np.int32), image[2])


def test_a_tile_that_fails_is_named_and_the_others_are_written(image, tmp_path):
    path, _pixels, labels = image
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    path.write_bytes(content[:offset] + bytes(size) + content[offset + size :])
    with pytest.raises(InputError, match=r"1 of 12 tiles failed.*rows 0 to 256, columns 0 to 256: .*row 0"):
        run(path, tmp_path / "out")
    labels[:256, :256] = 0
    assert ((ids(tmp_path / "out") > 0) == (labels > 0)).all()
    reason = (tmp_path / "out/failed.csv").read_text()
    assert "slide.tif" in reason
    assert "1 of 12 tiles failed" in reason


def test_regions_choose_tiles_and_cells(image, tmp_path, monkeypatch):
    path, _, _labels = image
    loaded = []
    load = methods.PlainTiles.load
    monkeypatch.setattr(methods.PlainTiles, "load", lambda self, box: loaded.append(box) or load(self, box))
    run(path, tmp_path / "one", view=View(region="300,10,200,220"), formats=("ome-tiff",))
    assert len(loaded) == 1
    result = ids(tmp_path / "one")
    centres = [np.argwhere(result == index).mean(axis=0) for index in range(1, result.max() + 1)]
    assert len(centres) > 1
    assert all(9 < y < 230 and 299 < x < 500 for y, x in centres)
    ring = [
        [[0, 0], [900, 0], [900, 700], [0, 700], [0, 0]],
        [[100, 100], [800, 100], [800, 600], [100, 600]],
    ]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": ring}}
    (tmp_path / "ring.json").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    run(path, tmp_path / "two", view=View(region=str(tmp_path / "ring.json")), formats=("ome-tiff",))
    result = ids(tmp_path / "two")
    assert result.any()
    assert not result[130:570, 130:770].any()
    # Another polygon in the same file is another prediction.
    feature["geometry"]["coordinates"] = ring[1:]
    (tmp_path / "ring.json").write_text(json.dumps(feature))
    run(path, tmp_path / "two", view=View(region=str(tmp_path / "ring.json")), formats=("ome-tiff",))
    assert ids(tmp_path / "two")[130:570, 130:770].any()


def test_tissue_is_what_is_segmented_and_shown(image, tmp_path):
    path, _pixels, labels = image
    labels[:, 300:] = 0
    tifffile.imwrite(path, np.where(labels > 0, 200, 20).astype(np.uint8), tile=(64, 64))
    run(path, tmp_path / "out", view=View(region="tissue"), formats=("ome-tiff",))
    assert same(ids(tmp_path / "out").astype(np.int32), labels)
    assert (tmp_path / "out/slide_tissue.png").exists()


def test_levels_and_micrometres_per_pixel(image, tmp_path):
    path, pixels, labels = image
    with tifffile.TiffWriter(path) as file:
        options = {"tile": (64, 64), "resolution": (20_000, 20_000), "resolutionunit": "centimeter"}
        file.write(pixels, subifds=1, **options)
        file.write(pixels[::2, ::2], subfiletype=1, tile=(64, 64))
    run(path, tmp_path / "level", view=View(level=1), formats=("ome-tiff", "geojson", "parquet"))
    assert same(ids(tmp_path / "level").astype(np.int32), connected_parts(labels[::2, ::2] > 0))
    # Outlines are in pixels of the finest level.
    features = json.loads((tmp_path / "level/slide_cells.geojson").read_text())["features"]
    assert max(shape(one["geometry"]).bounds[2] for one in features) > 850
    # Those of Parquet are, too; its columns are in pixels of the level.
    table = parquet.read_table(tmp_path / "level/slide_cells.parquet")
    geometries = from_wkb(table["geometry"].to_pylist())
    assert all(one.equals(shape(two["geometry"])) for one, two in zip(geometries, features, strict=True))
    assert json.loads(table.schema.metadata[SIDE.encode()]) == 2
    assert max(table["x1_px"].to_pylist()) <= 450
    run(path, tmp_path / "mpp", view=View(mpp=1.5), formats=("ome-tiff", "csv"))
    assert ids(tmp_path / "mpp").shape == (233, 300)
    rows = rows_of(tmp_path / "mpp")
    total = sum(float(row["area_um2"]) for row in rows)
    assert total == pytest.approx((labels > 0).sum() * 0.25, rel=0.05)


REFUSED = {
    "format": (View(), {"formats": ("svg",)}, "--export=svg cannot be written in parts: choose among ome"),
    "outside": (View(region="800,0,200,10"), {}, "is not inside the image of 900 x 700 pixels"),
    "no number": (View(region="nan,nan,nan,nan"), {}, "is not inside the image of 900 x 700 pixels"),
    "numbers": (View(region="a,b,c,d"), {}, "is not a rectangle x,y,width,height"),
    "missing": (View(region="missing.json"), {}, "nor a GeoJSON file of polygons"),
    "level": (View(level=4), {}, "--level=4: .* has 1 levels, choose one from 0 to 0"),
    "fine": (View(mpp=0.05), {}, "has 0.5 um per pixel, 10 times as much: check both"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_said_in_one_sentence(image, tmp_path, name):
    view, options, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        run(image[0], tmp_path / "out", view=view, **options)
    assert not [*(tmp_path / "out").glob("slide*")]


def test_polygons_of_another_image_are_refused(image, tmp_path):
    polygon = {"type": "Polygon", "coordinates": [[[0, 0], [2000, 0], [2000, 90], [0, 0]]]}
    (tmp_path / "a.geojson").write_text(json.dumps(polygon))
    with pytest.raises(
        InputError, match="outside of the image of 900 x 700 pixels: give the polygons of this"
    ):
        run(image[0], tmp_path / "out", view=View(region=str(tmp_path / "a.geojson")))


def test_a_missing_or_odd_pixel_size_is_questioned(image, tmp_path):
    path, pixels, _ = image
    tifffile.imwrite(path, pixels, tile=(64, 64))
    with pytest.raises(InputError, match=r"needs the pixel size, which .* does not state: give --pixel_size"):
        run(path, tmp_path / "out", view=View(mpp=1.0))
    run(path, tmp_path / "out", view=View(mpp=1.0), formats=("ome-tiff",), pixel_size=0.5)
    assert ids(tmp_path / "out").shape == (350, 450)
    run(path, tmp_path / "out", view=View(mpp=1.0), formats=("ome-tiff",), pixel_size=0.25)
    assert ids(tmp_path / "out").shape == (175, 225)
    tifffile.imwrite(
        path, pixels, tile=(64, 64), ome=True, metadata={"PhysicalSizeX": 500, "PhysicalSizeY": 500}
    )
    with pytest.raises(InputError, match=r"states a pixel size of 500 um .*is it in another unit"):
        run(path, tmp_path / "out", view=View(mpp=1.0))
    with pytest.raises(InputError, match="--mpp=500 states a pixel size of 500 um"):
        View(mpp=500)


def test_standard_formats_become_those_that_are_written_in_parts(image, tmp_path):
    list(predict(PLAIN, image[0].parent, tmp_path / "out"))
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file())
    assert names == ["slide_cells.ome.tif", "slide_measurements.csv"]


def test_an_ome_zarr_is_an_image(image, tmp_path):
    path, pixels, labels = image
    group = zarr.open_group(path.with_name("slide.zarr"), mode="w", zarr_format=2)
    group.create_array("0", shape=SHAPE, chunks=(64, 64), dtype="u1")[:] = pixels
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    path.unlink()
    run(path.parent, tmp_path / "out")
    assert same(ids(tmp_path / "out").astype(np.int32), labels)


def test_an_image_without_cells_has_empty_files(image, tmp_path):
    path, pixels, _ = image
    tifffile.imwrite(path, np.zeros_like(pixels), tile=(64, 64))
    run(path, tmp_path / "out")
    assert not ids(tmp_path / "out").any()
    assert json.loads((tmp_path / "out/slide_cells.geojson").read_text())["features"] == []
    table = parquet.read_table(tmp_path / "out/slide_cells.parquet")
    assert (table.num_rows, table["area_px"].type) == (0, "double")
    assert "area_px" in (tmp_path / "out/slide_measurements.csv").read_text()


def test_measurements_are_added_to_the_formats_of_large_images(image, tmp_path):
    path, *_ = image
    standard = Exports(("labels", "overlay", "csv", "parquet"), are_chosen=False)
    assert len(list(predict(PLAIN, path, tmp_path / "out", exports=standard))) == 1
    written = {file.name for file in (tmp_path / "out").glob("slide*")}
    assert written == {"slide_cells.ome.tif", "slide_measurements.csv", "slide_cells.parquet"}
    with pytest.raises(InputError, match="--export=labels cannot be written in parts"):
        run(path, tmp_path / "chosen", formats=("labels", "overlay"))


@pytest.mark.parametrize("name", ["slide_measurements.csv", "slide_tissue.png", "slide_cells.parquet"])
def test_a_file_of_the_user_is_not_replaced(image, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"mine")
    with pytest.raises(InputError, match=rf"{name} exists, and was not written by segjax predict"):
        run(image[0], out, formats=("csv", "parquet"), view=View(region="tissue"))
    assert (out / name).read_bytes() == b"mine"
    (out / name).unlink()
    for method in (PLAIN, PLAIN._replace(digest="other")):
        run(image[0], out, method, formats=("csv", "parquet"), view=View(region="tissue"))


def test_the_table_of_all_images_leaves_large_ones_out_and_says_so(image, tmp_path):
    path, pixels, _ = image
    tifffile.imwrite(path.with_name("small.tif"), pixels[:300, :300])
    made = predict(PLAIN, path.parent, tmp_path / "out", exports=Exports(("csv",)))
    assert len(list(made)) == 2
    assert "; measurements.csv leaves out 1 large image, measured in their own tables" in made.summary
    with (tmp_path / "out/measurements.csv").open() as file:
        assert {row["image"] for row in csv.DictReader(file)} == {"small.tif"}


def test_files_that_a_failed_prediction_replaced_are_made_again(image, tmp_path):
    path, _, labels = image
    out = tmp_path / "out"
    run(path, out)

    def failing(part):
        raise InputError("too dark")

    other = OpenedMethod(failing, ("background", "cell"), digest="failing")
    with pytest.raises(InputError, match="1 of 1"):
        run(path, out, other)
    assert not ids(out).any()
    again = run(path, out)
    assert "finished before" not in again.summary
    assert same(ids(out).astype(np.int32), labels)
