import numpy as np
import pytest
import tifffile

from segjax.data.pixel_size import read_pixel_size, stored_pixel_size
from tests.data import tiny

PIXELS = np.zeros((4, 5), np.uint16)


def ome(path, unit, x=0.325, y=0.325):
    metadata = {"axes": "YX", "PhysicalSizeX": x, "PhysicalSizeY": y, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(path, PIXELS, ome=True, metadata=metadata | {"PhysicalSizeYUnit": unit})


@pytest.mark.parametrize(
    ("unit", "per_micrometre"),
    [
        ("pm", 1e6),
        ("Å", 1e4),
        ("nm", 1e3),
        ("µm", 1),
        ("mm", 1e-3),
        ("cm", 1e-4),
        ("dm", 1e-5),
        ("m", 1e-6),
        ("thou", 1 / 25.4),
        ("in", 1 / 25_400),
        ("pt", 72 / 25_400),
        ("ft", 1 / 304_800),
    ],
)
def test_ome_says_it_in_its_unit(tmp_path, unit, per_micrometre):
    ome(tmp_path / "a.ome.tif", unit, 0.325 * per_micrometre, 0.325 * per_micrometre)
    assert read_pixel_size(tmp_path / "a.ome.tif") == pytest.approx(0.325)


@pytest.mark.parametrize(
    ("unit", "per_unit"),
    [
        *dict.fromkeys(
            ("um", "micron", "microns", "\\u00B5m", "Micrometer", "micrometers", "micrometre"), 4.0
        ).items(),
        *dict.fromkeys(("nm", "nanometer", "nanometers"), 4e-3).items(),
        *dict.fromkeys(("mm", "millimeter"), 4e3).items(),
        *dict.fromkeys(("cm", "centimeters"), 4e4).items(),
        *dict.fromkeys(("inch", "inches", "in"), 101_600.0).items(),
    ],
)
def test_imagej_says_it_by_its_resolution(tmp_path, unit, per_unit):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    assert read_pixel_size(path) == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("sign", [b"\xb5", "\N{MICRO SIGN}".encode(), "\N{GREEK SMALL LETTER MU}".encode()])
def test_imagej_may_write_any_micro_sign(tmp_path, sign):
    path, text = tmp_path / "a.tif", b"ImageJ=1.54f\nunit=" + sign + b"m\n"
    tifffile.imwrite(
        path, PIXELS, description=text, resolution=(4.0, 4.0), resolutionunit="NONE", metadata=None
    )
    assert read_pixel_size(path) == pytest.approx(0.25)


@pytest.mark.parametrize("unit", ["micron", "um", "pixel", "nm"])
@pytest.mark.parametrize(
    ("tag", "per_unit"), [("CENTIMETER", 1e4 / 0.325), ("INCH", 25_400 / 0.325)], ids=["centimetre", "inch"]
)
def test_a_resolution_for_each_centimetre_is_not_for_each_unit_of_imagej(tmp_path, unit, tag, per_unit):
    path = tmp_path / "a.tif"
    options = {"resolution": (per_unit, per_unit), "resolutionunit": tag, "metadata": {"unit": unit}}
    tifffile.imwrite(path, PIXELS, imagej=True, **options)
    assert read_pixel_size(path) == pytest.approx(0.325, rel=1e-4)


@pytest.mark.parametrize("tag", ["CENTIMETER", "INCH"])
def test_the_unit_of_imagej_counts_where_that_of_the_tags_is_impossible(tmp_path, tag):
    path = tmp_path / "a.tif"
    options = {"resolution": (4.0, 4.0), "resolutionunit": tag, "metadata": {"unit": "micron"}}
    tifffile.imwrite(path, PIXELS, imagej=True, **options)
    assert read_pixel_size(path) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("per_unit", "tag", "expected"),
    [
        (1e4 / 0.325, "CENTIMETER", 0.325),
        (25_400 / 0.325, "INCH", 0.325),
        (1e4 / 9, "CENTIMETER", 9),
        (72, "INCH", None),
        (300, "INCH", None),
        (2400, "INCH", None),
        (300 / 2.54, "CENTIMETER", None),
        (96 / 2.54, "CENTIMETER", None),
        (1, "NONE", None),
        (4.0, "NONE", None),
    ],
)
def test_tags_count_unless_they_are_those_of_a_screen_or_printer(tmp_path, per_unit, tag, expected):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, resolution=(per_unit, per_unit), resolutionunit=tag, metadata=None)
    assert read_pixel_size(path) == (None if expected is None else pytest.approx(expected, rel=1e-4))


@pytest.mark.parametrize("size", [0.0099, 100.1, 325, 3.25e-5])
def test_sizes_that_no_microscope_has_are_questioned(tmp_path, size, caplog):
    ome(tmp_path / "a.ome.tif", "µm", size, size)
    assert read_pixel_size(tmp_path / "a.ome.tif") is None
    assert f"a.ome.tif states a pixel size of {size:.4g} um" in caplog.text
    assert "another unit" in caplog.text
    assert stored_pixel_size(tmp_path / "a.ome.tif") == pytest.approx(size)


@pytest.mark.parametrize("size", [0.01, 100])
def test_the_bounds_are_plausible(tmp_path, size, caplog):
    ome(tmp_path / "a.ome.tif", "µm", size, size)
    assert read_pixel_size(tmp_path / "a.ome.tif") == size
    assert caplog.text == ""


@pytest.mark.parametrize("order", [1, -1], ids=["thumbnail first", "thumbnail last"])
def test_of_several_images_the_size_is_that_of_the_largest(tmp_path, order):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        for side, size in [(4, 2.5), (9, 0.5)][::order]:
            tiff.write(
                np.zeros((side, side), np.uint8),
                metadata={"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size},
            )
    assert read_pixel_size(tmp_path / "a.ome.tif") == 0.5


def test_sides_that_differ_are_no_side(tmp_path):
    ome(tmp_path / "a.ome.tif", "µm", y=0.5)
    assert read_pixel_size(tmp_path / "a.ome.tif") is None


def test_what_is_no_tiff_or_damaged_has_none(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\x00 nothing")
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert read_pixel_size(tmp_path / "a.tif") is None
    assert read_pixel_size(tmp_path / "a.png") is None
    assert read_pixel_size(tmp_path / "missing.tif") is None


def test_entities_in_metadata_are_not_expanded(tmp_path):
    path = tmp_path / "a.tif"
    text = (
        '<?xml version="1.0"?><!DOCTYPE o [<!ENTITY a "0.5">]><OME xmlns="x"><Image>'
        '<Pixels PhysicalSizeX="&a;" PhysicalSizeY="0.5"/></Image></OME>'
    )
    tifffile.imwrite(path, PIXELS, description=text, metadata=None)
    assert read_pixel_size(path) is None


def test_the_resolution_that_the_microscope_wrote_down_is_read(tmp_path):
    values = [("state", "bool", "on"), ("x", "float", "0.645"), ("units", "string", "um")]
    properties = "".join(
        f'<prop id="spatial-calibration-{name}" type="{kind}" value="{value}"/>'
        for name, kind, value in values
    )
    xml = f"<MetaData><PlaneInfo>{properties}</PlaneInfo></MetaData>"
    written = tiny.as_bytes(np.zeros((4, 4), np.uint8), description=xml, software="MetaSeries", metadata=None)
    (tmp_path / "a.tif").write_bytes(written)
    assert read_pixel_size(tmp_path / "a.tif") == 0.645
    (tmp_path / "b.tif").write_bytes(tiny.as_bytes(np.zeros((4, 4), np.uint8)))
    assert read_pixel_size(tmp_path / "b.tif") is None
