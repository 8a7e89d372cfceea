"""Images that are read in parts are those that are read at once."""

import contextlib

import numpy as np
import pytest
import tifffile
import zarr

from segjax.data.preprocess import resize_image
from segjax.data.readers import read_image
from segjax.data.readers.lazy import Matched, Rescaled, open_lazily, pyramid, tiff
from segjax.errors import InputError

RNG = np.random.default_rng(0)
WINDOWS = ((0, 0, 1, 1), (13, 77, 100, 90), (255, 63, 3, 66), (295, 391, 5, 9))


class Array:
    """An image in memory as a level."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype

    def read(self, top, left, height, width):
        return self.pixels[top : top + height, left : left + width]


@pytest.fixture
def opened():
    """Opens images, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def open_image(path, **options):
            image = open_lazily(path, **options)
            stack.callback(image.close)
            return image

        yield open_image


def pixels(*shape, dtype=np.uint8):
    return RNG.integers(0, 255, shape).astype(dtype)


STORED = {
    "one piece": (pixels(300, 400), {}),
    "strips": (pixels(300, 400, dtype=np.uint16), {"compression": "zlib", "rowsperstrip": 7}),
    "big endian": (pixels(300, 400, dtype=np.uint16), {"byteorder": ">"}),
    "tiles": (
        pixels(300, 400, dtype=np.uint16),
        {"tile": (64, 128), "compression": "zlib", "predictor": True},
    ),
    "jpeg": (pixels(300, 400, 3), {"tile": (128, 128), "photometric": "rgb", "compression": "jpeg"}),
    "planes": (pixels(3, 300, 400), {"tile": (64, 64), "photometric": "rgb", "planarconfig": "separate"}),
    "alpha": (pixels(300, 400, 4), {"tile": (64, 64), "photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "imagej": (pixels(4, 300, 400, dtype=np.uint16), {"imagej": True, "metadata": {"axes": "CYX"}}),
    "ome": (pixels(4, 300, 400), {"ome": True, "metadata": {"axes": "CYX"}, "tile": (64, 64)}),
    "white is 0": (pixels(300, 400), {"photometric": "miniswhite", "software": "a", "tile": (64, 64)}),
}


@pytest.mark.parametrize("name", STORED)
def test_windows_are_those_of_the_image(tmp_path, name, opened):
    path = tmp_path / "a.tif"
    stored, options = STORED[name]
    tifffile.imwrite(path, stored, **options)
    full = read_image(path)
    image = opened(path)
    assert image.shape == full.shape == (300, 400, full.shape[2])
    for top, left, height, width in (*WINDOWS, (0, 0, 300, 400)):
        window = image.levels[0].read(top, left, height, width)
        np.testing.assert_array_equal(window, full[top : top + height, left : left + width])


def test_a_window_outside_of_the_image_is_a_mistake(tmp_path, opened):
    tifffile.imwrite(tmp_path / "a.tif", pixels(300, 400))
    with pytest.raises(ValueError, match="is not inside an image"):
        opened(tmp_path / "a.tif").levels[0].read(290, 0, 11, 1)


def write_pyramid(path, levels, **options):
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(levels[0], subifds=len(levels) - 1, tile=(64, 64), compression="zlib", **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, tile=(64, 64), compression="zlib")


def test_levels_that_are_no_smaller_copies_are_left_out(tmp_path, monkeypatch, opened):
    warnings = []
    monkeypatch.setattr(pyramid.logging, "warning", lambda text, *values: warnings.append(text % values))
    full = pixels(300, 400)
    write_pyramid(tmp_path / "a.tif", [full, full[::2, ::2], full[::4, ::4]])
    honest = opened(tmp_path / "a.tif")
    assert [level.shape for level in honest.levels] == [(300, 400, 1), (150, 200, 1), (75, 100, 1)]
    np.testing.assert_array_equal(honest.levels[2].read(70, 9, 5, 4)[..., 0], full[280::4, 36:52:4])
    group = zarr.open_group(tmp_path / "b.zarr", mode="w")
    for number, level in enumerate([full, pixels(150, 70), full[::4, ::4]]):
        group.create_array(str(number), shape=level.shape, dtype="u1")[:] = level
    axes = [{"name": "y"}, {"name": "x"}]
    sets = [{"path": str(number)} for number in range(3)]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": sets}]}
    lying = opened(tmp_path / "b.zarr")
    assert [level.shape for level in lying.levels] == [(300, 400, 1), (75, 100, 1)]
    assert len(warnings) == 1
    assert "level 1 of 150 x 70 pixels is a smaller copy of its image of 300 x 400" in warnings[0]


def test_a_damaged_tile_is_named_and_the_others_are_read(tmp_path, opened):
    path, full = tmp_path / "a.tif", pixels(300, 400)
    tifffile.imwrite(path, full, tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[8], file.pages[0].databytecounts[8]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = bytes(size)
    path.write_bytes(content)
    level = opened(path).levels[0]
    np.testing.assert_array_equal(level.read(0, 0, 64, 400)[..., 0], full[:64])
    with pytest.raises(
        InputError, match=r"a\.tif cannot be read at row 64, column 64 \(.*copy the file again"
    ):
        level.read(60, 60, 10, 10)


def test_a_compressed_image_in_one_piece_and_a_turned_one_are_refused(tmp_path, monkeypatch, opened):
    monkeypatch.setattr(tiff, "MAX_SEGMENT", 1000)
    tifffile.imwrite(tmp_path / "a.tif", pixels(300, 400), compression="zlib", rowsperstrip=300)
    with pytest.raises(InputError, match=r"a\.tif stores pieces of 0\.0 GiB.*save it with tiles"):
        opened(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", pixels(300, 400), extratags=[(274, 3, 1, 6, False)])
    with pytest.raises(InputError, match="is stored rotated"):
        opened(tmp_path / "b.tif")
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.raises(InputError, match="save it as a tiled TIFF or as OME-Zarr"):
        opened(tmp_path / "c.png")


def test_a_stack_needs_a_plane(tmp_path, opened):
    stack = pixels(5, 300, 400)
    tifffile.imwrite(tmp_path / "a.tif", stack, ome=True, metadata={"axes": "ZYX"}, tile=(64, 64))
    with pytest.raises(InputError, match="choose one plane along Z"):
        opened(tmp_path / "a.tif")
    level = opened(tmp_path / "a.tif", planes={"Z": 3}).levels[0]
    np.testing.assert_array_equal(level.read(9, 8, 70, 60)[..., 0], stack[3, 9:79, 8:68])


def test_a_stack_that_ends_before_its_last_page_is_refused(tmp_path, opened):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pixels(5, 64, 64):
            file.write(page, tile=(32, 32), compression="zlib", metadata=None, contiguous=False)
    with tifffile.TiffFile(tmp_path / "a.tif") as stack:
        cut = min(stack.pages[3].offset, stack.pages[3].dataoffsets[0])
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:cut])
    with pytest.raises(InputError, match="ends before its page 3"):
        opened(tmp_path / "a.tif", planes={"0": 1})


def test_a_tile_that_was_never_written_is_zero(tmp_path, opened):
    tiles = [np.full((16, 16), 7, np.uint8), None]
    options = {"shape": (16, 32), "dtype": np.uint8, "tile": (16, 16), "compression": "zlib"}
    tifffile.imwrite(tmp_path / "a.tif", iter(tiles), **options)
    read = opened(tmp_path / "a.tif").levels[0].read(0, 0, 16, 32)[..., 0]
    np.testing.assert_array_equal(read, np.repeat([7, 0], 16)[None].repeat(16, axis=0))


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_of_both_versions(tmp_path, version, opened):
    path, full = tmp_path / "a.zarr", pixels(1, 2, 1, 300, 400, dtype=np.uint16)
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for number in range(2):
        step = 2**number
        part = full[..., ::step, ::step]
        array = group.create_array(str(number), shape=part.shape, chunks=(1, 1, 1, 64, 64), dtype=part.dtype)
        array[:] = part
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "tczyx"]
    scales = [{"type": "scale", "scale": [1, 1, 1, 0.25 * 2**n, 0.25 * 2**n]} for n in range(2)]
    sets = [{"path": str(n), "coordinateTransformations": [scales[n]]} for n in range(2)]
    about = {"version": "0.4", "axes": axes, "datasets": sets}
    group.attrs.update({"multiscales": [about]} if version == 2 else {"ome": {"multiscales": [about]}})
    image = opened(path)
    assert [level.shape for level in image.levels] == [(300, 400, 2), (150, 200, 2)]
    assert image.pixel_size == 0.25
    window = image.levels[0].read(60, 50, 70, 20)
    np.testing.assert_array_equal(window, np.moveaxis(full[0, :, 0, 60:130, 50:70], 0, -1))
    with pytest.raises(InputError, match="is no image in OME-Zarr"):
        opened(tmp_path / "missing.zarr")


def test_levels_that_have_other_planes_are_not_used(tmp_path, opened, caplog):
    path, full = tmp_path / "a.zarr", pixels(16, 128, 128)
    group = zarr.open_group(path, mode="w")
    for name, part in (("0", full), ("1", full[:, ::2, ::2]), ("2", full[::2, ::4, ::4])):
        group.create_array(name, shape=part.shape, chunks=(1, 64, 64), dtype=part.dtype)[:] = part
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    about = {"version": "0.5", "axes": axes, "datasets": [{"path": name} for name in "012"]}
    group.attrs.update({"ome": {"multiscales": [about]}})
    image = opened(path, planes={"Z": 12})
    assert [level.shape[:2] for level in image.levels] == [(128, 128), (64, 64)]
    np.testing.assert_array_equal(image.levels[1].read(0, 0, 64, 64)[..., 0], full[12, ::2, ::2])
    assert "other planes than the first are not used (1)" in caplog.text


def test_slides_are_rgb_with_pixel_size_and_levels(tmp_path, opened):
    path, full = tmp_path / "a.svs", pixels(512, 640, 3)
    options = {"tile": (128, 128), "photometric": "rgb", "metadata": None}
    description = "Aperio Image Library v1\n640x512 |AppMag = 20|MPP = 0.4990"
    with tifffile.TiffWriter(path) as writer:
        writer.write(full, description=description, **options)
        writer.write(full[::4, ::4], description=description, **options)
    image = opened(path)
    assert [level.shape for level in image.levels] == [(512, 640, 3), (128, 160, 3)]
    assert image.pixel_size == pytest.approx(0.499)
    np.testing.assert_array_equal(image.levels[0].read(100, 90, 60, 50), full[100:160, 90:140])
    np.testing.assert_array_equal(image.levels[1].read(10, 9, 6, 5), full[40:64:4, 36:56:4])
    (tmp_path / "b.svs").write_bytes(b"no slide")
    with pytest.raises(InputError, match=r"b\.svs is no slide that OpenSlide can read"):
        opened(tmp_path / "b.svs")


@pytest.mark.parametrize("factor", [0.3, 0.74, 0.999, 1.3, 3.7])
def test_windows_of_a_rescaled_level_are_those_of_the_resized_image(factor):
    image = RNG.random((103, 87, 2)).astype(np.float32)
    full, level = resize_image(image, factor), Rescaled(Array(image), factor)
    assert level.shape == full.shape
    height, width = full.shape[:2]
    for top, left, bottom, right in (
        (0, 0, height, width),
        (9, 5, 21, 18),
        (height - 4, width - 7, height, width),
    ):
        window = level.read(top, left, bottom - top, right - left)
        np.testing.assert_allclose(window, full[top:bottom, left:right], atol=1e-6)


def test_channels_and_types_are_those_of_the_method():
    image = pixels(30, 40, 3)
    chosen = Matched(Array(image), (2, 0), 2, "a")
    np.testing.assert_array_equal(chosen.read(3, 4, 5, 6), image[3:8, 4:10, [2, 0]])
    grey = Matched(Array(image[..., :1]), (), 3, "a")
    assert grey.shape == (30, 40, 3)
    wide = Matched(Array(image.astype(np.int32)), (), None, "a")
    assert wide.dtype == wide.read(0, 0, 3, 3).dtype == np.float32
    empty = Matched(Array(np.full((9, 9, 1), np.nan)), (), None, "a")
    with pytest.raises(InputError, match="a holds NaN"):
        empty.read(0, 0, 1, 1)
