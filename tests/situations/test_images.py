"""Files of images as cameras, microscopes and other programs write them.

Most situations are one line of a table: how a file is written, and what is read.
"""

import re
import struct
import uuid
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.pixel_size import read_pixel_size
from segjax.data.readers import limits, read_image, read_labels
from segjax.datasets.checks.files import check_file
from segjax.datasets.folder.examination import Checker, Options
from segjax.datasets.folder.image_files import ImageFile, list_items
from segjax.datasets.formats import open_annotations
from segjax.errors import InputError
from segjax.experiment.export_formats import Exports
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.prediction import predict
from segjax.experiment.prediction_inputs import Reading
from tests.situations.conftest import cells

PICTURE, LABELS = cells()
COLOUR = np.stack([PICTURE, PICTURE // 2, 255 - PICTURE], axis=-1)
DEEP = COLOUR.astype(np.uint16) * 200
ORIENTATION = 274
# How a program stores an upright picture, by the orientation that it states.
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def write(path, pixels, orientation=1, **options):
    """Writes pixels as stored, with an orientation for viewers to apply."""
    pixels = np.ascontiguousarray(pixels)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        options.setdefault("photometric", "rgb" if pixels.shape[-1] == 3 else "minisblack")
        tags = [(ORIENTATION, "H", 1, orientation, True)] if orientation != 1 else []
        tifffile.imwrite(path, pixels, extratags=tags, **options)
    else:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options |= {"lossless": True} if path.suffix == ".webp" else {}
        Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


def with_exif(png, orientation):
    """A PNG of 16-bit colours with an eXIf chunk, which Pillow cannot write."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = b"eXIf" + content
    chunk = len(content).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return png[:33] + chunk + png[33:]


# The orientation that EXIF or TIFF states is applied.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
@pytest.mark.parametrize("upright", [PICTURE, COLOUR], ids=["grey", "colour"])
def test_images_are_upright(tmp_path, name, upright, orientation):
    path = write(
        tmp_path / name,
        STORED[orientation](upright),
        orientation,
        **({"quality": 95, "subsampling": 0} if name == "a.jpg" else {}),
    )
    read = read_image(path)
    expected = np.broadcast_to(upright.reshape(96, 128, -1), read.shape)
    assert np.abs(read.astype(int) - expected).mean() < (4 if name == "a.jpg" else 1e-9)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_of_sixteen_bits_are_upright(tmp_path, orientation):
    stored = np.ascontiguousarray(STORED[orientation](DEEP))
    (tmp_path / "a.png").write_bytes(with_exif(imagecodecs.png_encode(stored), orientation))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), DEEP)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_labels_are_upright(tmp_path, name, orientation):
    path = write(tmp_path / name, STORED[orientation](LABELS), orientation)
    np.testing.assert_array_equal(read_labels(path), LABELS)


def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path):
    for number in (0, 9, 258):
        np.testing.assert_array_equal(read_image(write(tmp_path / "a.tif", PICTURE, number))[..., 0], PICTURE)


@pytest.mark.parametrize(
    "exif",
    [b"nothing", b"Exif\0\0nothing", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"],
    ids=["text", "header", "cut off"],
)
@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_damaged_exif_data_do_not_cost_the_image(tmp_path, name, exif):
    Image.fromarray(COLOUR).save(tmp_path / name, exif=exif, lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / name), COLOUR)


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_truth_of_a_rotated_photo_is_on_its_cells(tmp_path, orientation):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    photo = write(tmp_path / "images" / "a.jpg", STORED[orientation](PICTURE), orientation)
    write(tmp_path / "masks" / "a.png", LABELS)
    checker = Checker(
        open_annotations(tmp_path / "masks", format="labels", images={"a": photo}),
        Options(("background", "cell")),
        tmp_path / "staging",
    )
    _, record = checker._check(ImageFile("a", photo))
    bright = record.image[..., 0] > 100
    truth = record.truth.labels > 0
    assert (bright & truth).sum() / (bright | truth).sum() > 0.95
    np.testing.assert_array_equal(Reading().read(photo, None), record.image)


# Every kind of file that is read.


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp", "a.npy"])
def test_every_kind_of_file_is_listed_and_read(tmp_path, name):
    pixels = COLOUR
    (write if name != "a.bmp" else lambda path, p: Image.fromarray(p).save(path))(tmp_path / name, pixels)
    _, (item,) = list_items(tmp_path)
    np.testing.assert_array_equal(read_image(item.path), COLOUR)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.tif"])
def test_lossy_files_are_no_label_maps(tmp_path, name):
    path = tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(path, LABELS, compression="jpeg")
    else:
        Image.fromarray(LABELS).save(path)
    with pytest.raises(InputError, match="alters ids") as error:
        read_labels(path)
    assert error.value.kind == "lossy_mask"


def test_only_pictures_have_transparent_and_coloured_labels(tmp_path):
    alpha = np.where(np.arange(LABELS.shape[1]) < 64, np.uint8(0), np.uint8(255))
    two = np.stack([LABELS, np.broadcast_to(alpha, LABELS.shape)], -1)
    Image.fromarray(two, "LA").save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", two, extrasamples=["unassalpha"], photometric="minisblack")
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(read_labels(tmp_path / name), np.where(alpha == 0, 0, LABELS))
    # Two compartments of cells, and three.
    np.save(tmp_path / "two.npy", two)
    np.save(tmp_path / "three.npy", np.stack([LABELS] * 3, -1))
    for number in (2, 3):
        planes = np.stack([LABELS] * number)
        tifffile.imwrite(
            tmp_path / f"{number}.tif", planes, metadata={"axes": "CYX"}, photometric="minisblack"
        )
    for name in ("two.npy", "three.npy", "2.tif", "3.tif"):
        with pytest.raises(InputError, match=r"has [23] channels; a label map has one") as error:
            read_labels(tmp_path / name)
        assert error.value.kind == "invalid_ids"


# Axes are never guessed.

SQUARE = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def channels(count, axis):
    return np.stack([SQUARE + index for index in range(count)], axis=axis)


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        (SQUARE, (64, 64, 1)),
        (channels(3, 2), (64, 64, 3)),
        (channels(2, 2), (64, 64, 2)),
        (channels(4, 2), (64, 64, 4)),
        (channels(1, 2), (64, 64, 1)),
        (channels(1, 0), (64, 64, 1)),
        (channels(3, 2)[None], (64, 64, 3)),
        (channels(3, 2)[:5], (5, 64, 3)),
        (channels(3, 0), None),
        (channels(3, 1), None),
        (channels(5, 2), None),
        (channels(5, 0), None),
        (channels(64, 0), None),
        (channels(3, 2)[:3], None),
        (np.stack([channels(3, 2)] * 2), None),
    ],
    ids=lambda value: "refused" if value is None else "x".join(map(str, getattr(value, "shape", value))),
)
@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_arrays_and_tiff_have_one_rule_for_axes_without_names(tmp_path, stored, shape, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, stored)
    else:  # the shape, but no names: rows and columns of a page are the last two axes
        tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=None)
    if shape is None:
        with pytest.raises(InputError, match=r"a\.\w+ ") as error:
            read_image(path)
        assert error.value.kind == "unclear_axes"
        return
    read = read_image(path)
    assert read.shape == shape
    np.testing.assert_array_equal(read.reshape(stored.shape), stored)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_channels_that_come_first_need_one_flag(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", channels(3, 0))
    with pytest.raises(InputError, match="give channel_axis"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, channel_axis=0), channels(3, 2))
    with pytest.raises(InputError, match="give channel_axis"):
        read_labels(path)


@pytest.mark.parametrize(
    ("axes", "words"), [("ZYX", "along Z"), ("TYX", "along T"), ("TZYX", "along T and Z")]
)
def test_stacks_of_planes_are_never_called_channels(tmp_path, axes, words):
    shape = {"Z": 5, "T": 2, "Y": 64, "X": 64}
    stack = np.zeros([shape[axis] for axis in axes], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": axes}, photometric="minisblack")
    with pytest.raises(InputError, match=f"choose one plane {words}") as error:
        read_image(tmp_path / "a.tif")
    assert "channel" not in str(error.value)


def test_of_a_stack_on_disk_only_the_plane_is_read(tmp_path, monkeypatch):
    stack = np.stack([PICTURE + index for index in range(30)])
    np.save(tmp_path / "a.npy", stack)
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    monkeypatch.setattr(limits, "MAX_BYTES", 3 * PICTURE.size)
    for name, axis in (("a.npy", "0"), ("a.tif", "Z"), ("b.tif", "Z")):
        np.testing.assert_array_equal(read_image(tmp_path / name, planes={axis: 7})[..., 0], stack[7])


# Several images in one file, and one image in several files.


def write_pages(path, pages, **options):
    with tifffile.TiffWriter(path, **options) as tiff:
        for page in pages:
            tiff.write(page, photometric="minisblack", **({} if options else {"metadata": None}))


@pytest.mark.parametrize(
    ("pages", "options", "message"),
    [
        ([PICTURE[::4, ::4], PICTURE], {}, "2 images.*image 1 of 96 x 128 .*24 x 32"),
        ([PICTURE, PICTURE[:40, :50]], {}, "2 images.*image 0 of 96 x 128 .*40 x 50"),
        ([PICTURE[:50], PICTURE, PICTURE[:60]], {}, "3 images.*image 1 of 96 x 128.*50 x 128, 60 x 128"),
        ([PICTURE[:50], PICTURE], {"ome": True}, "2 images.*image 1 of 96 x 128.*50 x 128"),
    ],
    ids=["thumbnail first", "thumbnail last", "three sizes", "OME series"],
)
def test_of_several_images_the_largest_is_read_and_the_others_are_named(
    tmp_path, pages, options, message, caplog
):
    path = tmp_path / ("a.ome.tif" if options else "a.tif")
    write_pages(path, pages, **options)
    np.testing.assert_array_equal(read_image(path)[..., 0], PICTURE)
    np.testing.assert_array_equal(read_labels(path), PICTURE)
    assert caplog.text.count("a.") >= 2
    (finding,) = check_file(path)
    assert finding.kind == "several_images"
    for text in (caplog.text, finding.detail):
        assert re.search(message, text)


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_of_an_animation_the_first_image_is_read_and_the_others_are_counted(tmp_path, name, caplog):
    first, second = Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1])
    first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / name), COLOUR)
    assert "2 images, of which the first is read" in caplog.text
    assert [finding.kind for finding in check_file(tmp_path / name)] == ["several_images"]


def test_the_levels_of_a_pyramid_are_one_image(tmp_path, caplog):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        tiff.write(PICTURE, subifds=1, photometric="minisblack")
        tiff.write(PICTURE[::2, ::2], subfiletype=1, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif")[..., 0], PICTURE)
    assert caplog.text == ""
    assert check_file(tmp_path / "a.ome.tif") == []


def write_set(folder, planes):
    """Writes an OME-TIFF set, one file for each channel, each with the XML of all."""
    ids = [f"urn:uuid:{uuid.UUID(int=index)}" for index in range(len(planes))]
    data = "".join(
        f'<TiffData FirstC="{index}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="c{index}.ome.tif">{ids[index]}</UUID></TiffData>'
        for index in range(len(planes))
    )
    channel = "".join(
        f'<Channel ID="Channel:0:{index}" SamplesPerPixel="1"/>' for index in range(len(planes))
    )
    for index, plane in enumerate(planes):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{ids[index]}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="128"'
            f' SizeY="96" SizeC="{len(planes)}" SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
            f"{channel}{data}</Pixels></Image></OME>"
        )
        tifffile.imwrite(folder / f"c{index}.ome.tif", plane, description=xml, metadata=None)


@pytest.mark.parametrize("missing", [None, 0, 1], ids=["complete", "first missing", "second missing"])
def test_a_file_of_a_set_has_its_own_plane(tmp_path, missing, caplog):
    planes = [PICTURE, 255 - PICTURE]
    write_set(tmp_path, planes)
    if missing is not None:
        (tmp_path / f"c{missing}.ome.tif").unlink()
    for index in {0, 1} - {missing}:
        path = tmp_path / f"c{index}.ome.tif"
        np.testing.assert_array_equal(read_image(path), planes[index][..., None])
        assert f"c{index}.ome.tif holds one part of an OME-TIFF of several files" in caplog.text
        assert read_pixel_size(path) == 0.5


def test_planes_that_are_missing_are_never_zeros(tmp_path):
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8"'
        ' SizeX="128" SizeY="96" SizeC="2" SizeZ="1" SizeT="1">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", PICTURE, description=xml, metadata=None)
    with pytest.raises(InputError, match="holds data for fewer"):
        read_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    "options",
    [{"imagej": True}, {"ome": True}, {}, {"compression": "zlib"}],
    ids=["ImageJ", "OME", "plain", "compressed"],
)
@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.97])
def test_the_last_plane_of_a_stack_that_is_cut_off_is_never_another_plane(tmp_path, options, fraction):
    path, stack = tmp_path / "a.tif", np.stack([PICTURE + index for index in range(30)])
    options = {"photometric": "minisblack"} | options
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX"}, **options)
    np.testing.assert_array_equal(read_image(path, planes={"Z": 29})[..., 0], stack[29])
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
    with pytest.raises(InputError, match=r"a\.tif (ends before|cannot be read|declares)"):
        read_image(path, planes={"Z": 29})


# Palettes, ink, and 0 for white.

PALETTE = np.zeros((3, 256), np.uint16)
PALETTE[:, :9] = np.random.default_rng(0).integers(0, 256, (3, 9)) * 257
GREEN = np.zeros((3, 256), np.uint16)
GREEN[1] = np.arange(256) * 257


@pytest.mark.parametrize(
    ("colormap", "options", "expected"),
    [
        (PALETTE, {}, (PALETTE >> 8).T[LABELS]),
        (PALETTE >> 8, {}, (PALETTE >> 8).T[LABELS]),
        (PALETTE, {"compression": "zlib"}, (PALETTE >> 8).T[LABELS]),
        (GREEN, {}, (GREEN >> 8).T[LABELS]),
        (GREEN, {"description": "ImageJ=1.54f\nimages=1\n"}, LABELS[..., None]),
        (PALETTE, {"description": "ImageJ=1.54f\nimages=1\n"}, (PALETTE >> 8).T[LABELS]),
    ],
    ids=["16 bits", "8 bits", "compressed", "green", "green by ImageJ", "colours by ImageJ"],
)
def test_the_palette_of_a_tiff_has_colours_in_images_and_indices_in_labels(
    tmp_path, colormap, options, expected
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, LABELS, photometric="palette", colormap=colormap, metadata=None, **options)
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(read_labels(path), LABELS)


def test_zero_for_white_is_inverted_unless_values_are_measurements(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PICTURE, photometric="miniswhite", software="scanner", metadata=None)
    np.testing.assert_array_equal(read_image(path)[..., 0], 255 - PICTURE)
    np.testing.assert_array_equal(read_labels(path), PICTURE)  # ids are no brightness
    tifffile.imwrite(
        path, PICTURE, photometric="miniswhite", description="ImageJ=1.54f\nimages=1\n", metadata=None
    )
    np.testing.assert_array_equal(read_image(path)[..., 0], PICTURE)
    Image.fromarray(LABELS > 0).save(path, compression="group4")  # 0 for black
    np.testing.assert_array_equal(read_labels(path), LABELS > 0)


def test_colours_that_are_not_rgb_are_converted_or_refused(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "cmyk.tif")
    assert np.abs(read_image(tmp_path / "cmyk.tif").astype(int) - COLOUR).max() <= 1
    Image.fromarray(COLOUR).convert("LAB").save(tmp_path / "lab.tif")
    with pytest.raises(InputError, match=r"lab\.tif stores its colours as CIELAB"):
        read_image(tmp_path / "lab.tif")


# Packed pixels.


@pytest.mark.parametrize(
    ("bits", "compression"), [(1, None), (1, "zlib"), (1, "packbits"), (4, None), (12, None)]
)
def test_packed_pixels_are_complete(tmp_path, bits, compression):
    path = tmp_path / "a.tif"
    if bits == 1:
        stored, expected = LABELS > 0, np.where(LABELS > 0, 255, 0)
        tifffile.imwrite(path, stored, compression=compression)
    else:
        stored = expected = LABELS.astype(np.uint8 if bits == 4 else np.uint16) * (1 if bits == 4 else 400)
        tifffile.imwrite(path, stored, bitspersample=bits, photometric="minisblack")
    np.testing.assert_array_equal(read_image(path)[..., 0], expected)
    np.testing.assert_array_equal(read_labels(path), stored)


@pytest.mark.parametrize("bits", [1, 4, 12])
def test_packed_pixels_that_are_cut_off_are_truncated(tmp_path, bits):
    path = tmp_path / "a.tif"
    stored = LABELS > 0 if bits == 1 else LABELS.astype(np.uint8 if bits == 4 else np.uint16)
    tifffile.imwrite(path, stored, bitspersample=bits, photometric="minisblack", rowsperstrip=96)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tags = tiff.pages.first.tags
        tags["ImageLength"].overwrite(120)
        tags["RowsPerStrip"].overwrite(120)
    with pytest.raises(InputError, match="holds data for fewer") as error:
        read_image(path)
    assert error.value.kind == "truncated"


@pytest.mark.parametrize("mode", ["1", "L;2", "L;4"])
def test_labels_of_packed_pictures_are_the_stored_numbers(tmp_path, mode):
    bits = {"1": 1, "L;2": 2, "L;4": 4}[mode]
    ids = LABELS % 2**bits
    packed = np.packbits(np.unpackbits(ids[..., None], axis=-1)[..., 8 - bits :].reshape(96, -1), axis=-1)
    chunks = [
        b"IHDR" + struct.pack(">IIBBBBB", 128, 96, bits, 0, 0, 0, 0),
        b"IDAT" + zlib.compress(np.pad(packed, ((0, 0), (1, 0))).tobytes()),
        b"IEND",
    ]
    content = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids)


# Memory is bounded, not sides.


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_an_image_of_more_than_two_to_the_28_pixels_is_read(tmp_path, suffix):
    path, side = tmp_path / f"a{suffix}", 16_385
    if suffix == ".npy":
        np.lib.format.open_memmap(path, "w+", np.uint8, (side, side))[-1, -1] = 7
    else:
        pixels = np.zeros((side, side), np.uint8)
        pixels[-1, -1] = 7
        if suffix == ".tif":
            tifffile.imwrite(path, pixels, compression="zlib", compressionargs={"level": 1})
        else:
            path.write_bytes(imagecodecs.png_encode(pixels, level=1))
        del pixels
    read = read_image(path)
    assert read.shape == (side, side, 1)
    assert read[-1, -1, 0] == 7


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.jpg", "a.bmp", "a.webp"])
def test_an_image_that_does_not_fit_into_memory_is_refused_before_it_is_decoded(tmp_path, name, monkeypatch):
    path = tmp_path / name
    if name in ("a.tif", "a.npy"):
        write(path, PICTURE)
    else:
        Image.fromarray(PICTURE).save(path)
    monkeypatch.setattr(limits, "MAX_BYTES", PICTURE.size - 1)
    with pytest.raises(InputError, match=r"more than a quarter of the memory.*cut it into tiles") as error:
        read_image(path)
    assert error.value.kind == "too_large"


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.bmp"])
def test_a_header_that_declares_more_than_the_file_can_hold_is_caught(tmp_path, name):
    path = tmp_path / name
    if name == "a.npy":
        with path.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (40_000, 40_000)}
            np.lib.format.write_array_header_1_0(file, header)
    else:
        Image.fromarray(PICTURE).save(path)
        content, side = bytearray(path.read_bytes()), 40_000
        if name == "a.png":
            content[16:24] = side.to_bytes(4, "big") * 2
            content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        else:
            content[18:26] = side.to_bytes(4, "little") * 2
        path.write_bytes(content)
    with pytest.raises(InputError, match="declares 40000 x 40000 pixels, but holds data for fewer") as error:
        read_image(path)
    assert error.value.kind == "truncated"


# What `segjax prepare` notes about such files.


def check(folder, item, **options):
    """Returns the findings and the record of one image, whose mask is LABELS."""
    (folder / "masks").mkdir(exist_ok=True)
    write(folder / "masks" / f"{item.key}.png", LABELS)
    annotations = open_annotations(folder / "masks", format="labels", images={item.key: item.path})
    return Checker(annotations, Options(("background", "cell"), **options), folder / "staging")._check(item)


def test_other_images_in_a_file_are_noted_and_the_image_is_used(tmp_path):
    write_pages(tmp_path / "a.tif", [PICTURE[:40], PICTURE])
    findings, record = check(tmp_path, ImageFile("a", tmp_path / "a.tif"))
    assert "several_images" in [finding.kind for finding in findings]
    np.testing.assert_array_equal(record.image[..., 0], PICTURE)


def test_stacks_are_set_aside_unless_a_plane_is_chosen(tmp_path):
    stack = np.stack([255 - PICTURE, PICTURE])
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    (finding,), record = check(tmp_path, ImageFile("a", tmp_path / "a.tif"))
    assert (finding.kind, record) == ("unclear_axes", None)
    _, record = check(tmp_path, ImageFile("a", tmp_path / "a.tif"), planes=(("Z", 1),))
    np.testing.assert_array_equal(record.image[..., 0], PICTURE)


@pytest.mark.parametrize(
    ("in_file", "in_table", "expected", "detail"),
    [
        (0.5, None, 0.5, None),
        (0.5, 0.25, 0.25, None),
        (325, None, None, "the file states a pixel size of 325 um"),
        (325, 0.25, 0.25, None),
        (0.5, 325.0, 325.0, "the table states a pixel size of 325 um"),
    ],
)
def test_an_unusual_pixel_size_is_noted_and_that_of_a_file_is_not_used(
    tmp_path, in_file, in_table, expected, detail
):
    sizes = {f"PhysicalSize{axis}": in_file for axis in "XY"}
    tifffile.imwrite(tmp_path / "a.ome.tif", PICTURE, ome=True, metadata={"axes": "YX", **sizes})
    findings, record = check(tmp_path, ImageFile("a", tmp_path / "a.ome.tif", pixel_size=in_table))
    assert record.pixel_size == expected
    details = [finding.detail for finding in findings if finding.kind == "unusual_pixel_size"]
    assert len(details) == (detail is not None)
    assert all(text.startswith(detail) for text in details)


@pytest.mark.parametrize("size", [325.0, 0.001])
def test_an_unusual_pixel_size_of_a_flag_is_questioned(images, tmp_path, size, caplog):
    predict(
        OpenedMethod(None, ("background", "cell"), None),
        images,
        tmp_path / "out",
        exports=Exports(pixel_size=size),
    )
    assert f"--pixel_size states a pixel size of {size:.4g} um" in caplog.text
