import numpy as np
import pytest
import tifffile

from segjax.data.pixel_size import read_pixel_size
from tests.data import tiny

PIXELS = np.zeros((4, 5), np.uint16)


def ome(path, unit, x=0.325, y=0.325):
    metadata = {"axes": "YX", "PhysicalSizeX": x, "PhysicalSizeY": y, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(path, PIXELS, ome=True, metadata=metadata | {"PhysicalSizeYUnit": unit})


@pytest.mark.parametrize(("unit", "factor"), [("µm", 1), ("nm", 1e-3), ("mm", 1e3)])
def test_ome_says_it_in_its_unit(tmp_path, unit, factor):
    ome(tmp_path / "a.ome.tif", unit)
    assert read_pixel_size(tmp_path / "a.ome.tif") == pytest.approx(0.325 * factor)


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_imagej_says_it_by_its_resolution(tmp_path, unit):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, imagej=True, resolution=(4.0, 4.0), metadata={"unit": unit})
    assert read_pixel_size(path) == pytest.approx(0.25)


def test_a_bare_resolution_is_no_size_of_a_pixel(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, resolution=(300, 300), resolutionunit="INCH", metadata=None)
    assert read_pixel_size(path) is None


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
