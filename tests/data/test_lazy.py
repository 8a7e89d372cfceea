"""Images that are read in parts are those that are read at once."""

import contextlib
import functools
import zipfile
from concurrent import futures

import numpy as np
import pytest
import tifffile
import zarr

from segjax.data.preprocess import resize_image
from segjax.data.readers import limits, read_image
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


def damage_tile(path, number):
    """Sets the bytes of a tile of a TIFF to 0."""
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[number], file.pages[0].databytecounts[number]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = bytes(size)
    path.write_bytes(content)


def test_a_damaged_tile_is_named_and_the_others_are_read(tmp_path, opened):
    path, full = tmp_path / "a.tif", pixels(300, 400)
    tifffile.imwrite(path, full, tile=(64, 64), compression="zlib")
    damage_tile(path, 8)
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


ONE_PAGE = {
    "imagej": (pixels(5, 3, 60, 70, dtype=np.uint16), {"imagej": True, "metadata": {"axes": "ZCYX"}}),
    "colour": (pixels(5, 60, 70, 3), {"imagej": True, "metadata": {"axes": "ZYXS"}}),
    "tifffile": (pixels(5, 60, 70, dtype=np.uint16), {"metadata": {"axes": "ZYX"}, "byteorder": ">"}),
    "at an odd address": (
        pixels(5, 60, 70, dtype=np.uint16),
        {"metadata": {"axes": "ZYX"}, "description": "a" * 4000, "align": 1},
    ),
}


@pytest.mark.parametrize("name", ONE_PAGE)
def test_of_a_stack_with_one_page_only_the_plane_is_read(tmp_path, name, opened, monkeypatch):
    """As ImageJ writes stacks of more than 4 GB."""
    path, (stack, options) = tmp_path / "a.tif", ONE_PAGE[name]
    tifffile.imwrite(path, stack, truncate=True, **options)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
    expected = np.moveaxis(stack[3], 0, -1) if name == "imagej" else stack[3].reshape(60, 70, -1)
    monkeypatch.setattr(limits, "MAX_BYTES", stack[0].nbytes)
    np.testing.assert_array_equal(read_image(path, planes={"Z": 3}), expected)
    level = opened(path, planes={"Z": 3}).levels[0]
    np.testing.assert_array_equal(level.read(7, 8, 50, 60), expected[7:57, 8:68])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "a.tif")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        np.testing.assert_array_equal(read_image(zipfile.Path(archive, "a.tif"), planes={"Z": 3}), expected)
    if "imagej" not in options:
        path.write_bytes(path.read_bytes()[: -stack[0].nbytes])
        with pytest.raises(InputError, match=r"a\.tif declares 60 x 70 pixels, but holds data for fewer"):
            read_image(path, planes={"Z": 3})


def test_of_a_plain_image_that_is_cut_off_the_first_rows_are_read(tmp_path, opened):
    path = tmp_path / "a.tif"
    for options in ({}, {"photometric": "rgb", "planarconfig": "separate"}):
        full = pixels(3, 300, 400) if options else pixels(300, 400)
        tifffile.imwrite(path, full, **options)
        with tifffile.TiffFile(path) as file:
            start = file.pages[0].dataoffsets[0]
        whole = read_image(path)
        path.write_bytes(path.read_bytes()[: start + full.size - 100 * 400])
        level = opened(path).levels[0]
        np.testing.assert_array_equal(level.read(0, 0, 200, 400), whole[:200])
        with pytest.raises(InputError, match=r"a\.tif cannot be read at row 190, column 9 \(.* too early"):
            level.read(190, 9, 11, 20)


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


def test_a_damaged_chunk_is_named_and_the_others_are_read(tmp_path, opened):
    path, full = tmp_path / "a.zarr", pixels(3, 100, 120, dtype=np.dtype(">u2"))
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=full.shape, chunks=(1, 64, 64), dtype=full.dtype)[:] = full
    axes = [{"name": name, "type": "space"} for name in "cyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    for chunk in ("0.0.0", "0/0/0"):
        if (path / "0" / chunk).is_file():
            (path / "0" / chunk).write_bytes(b"no chunk")
    level = opened(path).levels[0]
    assert (level.shape, level.dtype) == ((100, 120, 3), full.dtype)
    with pytest.raises(
        InputError, match=r"a\.zarr cannot be read at row 0, column 0 \(.*copy the file again"
    ):
        level.read(0, 0, 9, 9)
    np.testing.assert_array_equal(level.read(64, 0, 30, 120), np.moveaxis(full[:, 64:94], 0, -1))


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


def test_a_damaged_tile_of_a_slide_is_named_and_the_others_are_read(tmp_path, opened):
    path, full = tmp_path / "a.svs", pixels(512, 640, 3)
    options = {"tile": (128, 128), "photometric": "rgb", "metadata": None, "compression": "jpeg"}
    tifffile.imwrite(path, full, description="Aperio Image Library v1\n640x512 |MPP = 0.5", **options)
    whole = opened(path).levels[0].read(0, 0, 512, 640)
    damage_tile(path, 6)
    level = opened(path).levels[0]
    message = r"a\.svs cannot be read at row 120, column 120 \(.*copy the file again"
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            level.read(120, 120, 30, 30)
        np.testing.assert_array_equal(level.read(0, 0, 128, 640), whole[:128])
    # Also while other threads read.
    tasks = [functools.partial(level.read, 0, 0, 128, 640), functools.partial(level.read, 120, 120, 30, 30)]
    with futures.ThreadPoolExecutor(4) as pool:
        intact, broken = ([pool.submit(task) for _ in range(20)] for task in tasks)
        for one in intact:
            np.testing.assert_array_equal(one.result(), whole[:128])
        assert all(isinstance(one.exception(), InputError) for one in broken)


def leica_image(size, corner, sizes, first):
    """The description of one image of a slide of Leica; size and corner are in pixels of 250 nm."""
    (width, height), (x, y) = ([250 * side for side in pair] for pair in (size, corner))
    levels = "".join(
        f'<dimension sizeX="{across}" sizeY="{down}" r="{number}" ifd="{first + number}"/>'
        for number, (across, down) in enumerate(sizes)
    )
    light = "<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>"
    return f"""<image name="a"><creationDate>2014-01-01T00:00:00Z</creationDate>
        <device model="m" version="1"/><pixels sizeX="{sizes[0][0]}" sizeY="{sizes[0][1]}">{levels}</pixels>
        <view sizeX="{width}" sizeY="{height}" offsetX="{x}" offsetY="{y}" spacingZ="0"/><scanSettings>
        <objectiveSettings><objective>20</objective></objectiveSettings>
        <illuminationSettings>{light}</illuminationSettings></scanSettings></image>"""


def test_of_a_slide_with_bounds_the_part_that_was_scanned_is_the_image(tmp_path, opened):
    path, full, macro = tmp_path / "a.scn", pixels(512, 640, 3), pixels(64, 128, 3)
    overview = leica_image((2000, 1600), (0, 0), [(128, 64)], 0)
    scan = leica_image((640, 512), (400, 300), [(640, 512), (160, 128)], 1)
    description = f"""<?xml version="1.0"?>
        <scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
        <collection name="a" sizeX="{2000 * 250}" sizeY="{1600 * 250}"><barcode>a</barcode>
        {overview}{scan}</collection></scn>"""
    options = {"tile": (128, 128), "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(macro, description=description.strip(), **options)
        writer.write(full, **options)
        writer.write(full[::4, ::4], **options)
    image = opened(path)
    assert [level.shape for level in image.levels] == [(512, 640, 3), (128, 160, 3)]
    np.testing.assert_array_equal(image.levels[0].read(0, 0, 512, 640), full)
    np.testing.assert_array_equal(image.levels[1].read(100, 90, 28, 70), full[400::4, 360::4])


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
