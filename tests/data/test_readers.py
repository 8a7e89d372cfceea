import struct
import zipfile
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.planes import parse_planes
from segjax.data.readers import read_image, read_labels
from segjax.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (6, 5), np.uint8)
COLOUR = RNG.integers(0, 255, (6, 5, 4), np.uint8)
DEEP = RNG.integers(0, 65_535, (6, 5, 3), np.uint16)


def write(path, pixels, **options):
    if path.suffix == ".tif":
        options.setdefault("photometric", "rgb" if pixels.shape[-1] == 3 else "minisblack")
        tifffile.imwrite(path, pixels, **options)
    elif path.suffix == ".npy":
        np.save(path, pixels)
    elif pixels.dtype == np.uint16 and pixels.ndim == 3:
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.npy", "A.PNG"])
def test_grey_images_get_a_channel(tmp_path, name):
    path = tmp_path / name
    write(path.with_suffix(path.suffix.lower()), GREY).rename(path)
    read = read_image(str(path))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read[..., 0], GREY)
    np.testing.assert_array_equal(read_labels(path), GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_sixteen_bit_colours_keep_their_depth(tmp_path, suffix):
    for pixels in (DEEP, DEEP[..., 0]):
        read = read_image(write(tmp_path / f"a{suffix}", pixels))
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, pixels.reshape(6, 5, -1))


def test_alpha_is_dropped(tmp_path):
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.png", COLOUR)), COLOUR[..., :3])
    path = write(tmp_path / "a.tif", COLOUR, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(path), COLOUR[..., :3])
    Image.fromarray(COLOUR[..., :2]).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), COLOUR[..., :1])


def test_of_a_palette_an_image_has_the_colours_and_labels_the_indices(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    picture.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60])
    assert picture.mode == "P"
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[1], [[40, 50, 60], [10, 20, 30]])
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), [[0, 1], [2, 1]])


def test_jpeg_is_near_enough(tmp_path):
    path = write(tmp_path / "a.jpg", np.full((16, 16, 3), 100, np.uint8))
    assert abs(read_image(path).astype(int) - 100).max() <= 2
    with pytest.raises(InputError, match=r"a\.jpg is a JPEG"):
        read_labels(path)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb", "planarconfig": "separate"},
        {"metadata": {"axes": "CYX"}},
        {"imagej": True, "metadata": {"axes": "CYX"}},
        {"ome": True, "metadata": {"axes": "CYX"}},
    ],
)
def test_channels_first_is_believed_where_the_file_says_so(tmp_path, options):
    path = write(tmp_path / "a.tif", DEEP.transpose(2, 0, 1), **({"photometric": "minisblack"} | options))
    np.testing.assert_array_equal(read_image(path), DEEP)


def test_a_plain_stack_needs_the_flag(tmp_path):
    path = write(tmp_path / "a.tif", DEEP.transpose(2, 0, 1), photometric="minisblack")
    with pytest.raises(InputError, match="give channel_axis"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, channel_axis=0), DEEP)
    np.testing.assert_array_equal(read_image(path, channel_axis=-3), DEEP)
    array = write(tmp_path / "a.npy", DEEP.transpose(2, 0, 1))
    np.testing.assert_array_equal(read_image(array, channel_axis=0), DEEP)
    wide = write(tmp_path / "b.npy", np.zeros((3, 9, 200), np.uint8))
    with pytest.raises(InputError, match="would have 200 channels; give channel_axis"):
        read_image(wide, channel_axis=2)
    assert read_image(write(tmp_path / "grey.tif", GREY), channel_axis=0).shape == (6, 5, 1)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.array([[True, False]]), np.array([[255, 0]], np.uint8)),
        (np.array([[1, 65_535]], np.int32), np.array([[1, 65_535]], np.uint16)),
        (np.array([[-1, 5]], np.int16), np.array([[-1, 5]], np.float32)),
        (np.array([[1, 70_000]], np.uint32), np.array([[1, 70_000]], np.float32)),
        (np.array([[0.5, 2]], np.float64), np.array([[0.5, 2]], np.float32)),
        (np.array([[1, 2]], ">u2"), np.array([[1, 2]], np.uint16)),
    ],
)
def test_other_types_become_one_of_three(tmp_path, stored, expected):
    read = read_image(write(tmp_path / "a.npy", stored))
    assert read.dtype == expected.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read[..., 0], expected)


def test_reads_members_of_an_archive(tmp_path):
    write(tmp_path / "a.tif", DEEP)
    write(tmp_path / "a.png", COLOUR)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.tif", "in/a.tif")
        archive.write(tmp_path / "a.png", "in/a.png")
        np.testing.assert_array_equal(read_image(zipfile.Path(archive, "in/a.tif")), DEEP)
        np.testing.assert_array_equal(read_image(zipfile.Path(archive, "in/a.png")), COLOUR[..., :3])


def test_labels_as_numbers_and_as_colours(tmp_path):
    ids = np.array([[0, 300], [70_000, 300]], np.int32)
    np.testing.assert_array_equal(read_labels(write(tmp_path / "a.tif", ids)), ids)
    np.testing.assert_array_equal(read_labels(write(tmp_path / "a.npy", ids.astype(np.float64))), ids)
    deep = np.array([[0, 300], [65_535, 300]], np.uint16)
    np.testing.assert_array_equal(read_labels(write(tmp_path / "a.png", deep)), deep)
    coloured = np.zeros((1, 3, 4), np.uint8)
    coloured[0, 1] = (1, 2, 3, 255)
    coloured[0, 2] = (1, 2, 3, 0)
    np.testing.assert_array_equal(read_labels(write(tmp_path / "c.png", coloured)), [[0, 0x010203 + 1, 0]])
    np.testing.assert_array_equal(
        read_labels(write(tmp_path / "c.tif", coloured, photometric="rgb", extrasamples=["unassalpha"])),
        [[0, 0x010203 + 1, 0]],
    )
    Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8)).save(tmp_path / "grey_alpha.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "grey_alpha.png"), [[7, 0]])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([[0.5]]), "holds fractions"),
        (np.array([[np.nan]]), "holds fractions"),
        (np.array([[-1]]), "ids outside"),
        (np.array([[2**31]]), "ids outside"),
        (np.zeros((5, 5, 3), int), "has 3 channels"),
    ],
)
def test_refuses_what_is_no_label_map(tmp_path, bad, message):
    with pytest.raises(InputError, match=message):
        read_labels(write(tmp_path / "a.npy", bad))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["scan.tif", "scan.npy"])
def test_refuses_pixels_that_are_not_numbers_by_the_name_of_the_file(tmp_path, name, value):
    pixels = np.zeros((4, 4), np.float32)
    pixels[1, 2] = value
    with pytest.raises(InputError, match=r"scan\.\w+ holds NaN or infinite"):
        read_image(write(tmp_path / name, pixels))


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = zlib.compress(b"\0" * 1000)
    idat = b"IDAT" + data
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk
        + struct.pack(">I", len(data))
        + idat
        + struct.pack(">I", zlib.crc32(idat))
    )


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(100_000, 100_000))
    with pytest.raises(InputError, match=r"bomb\.png .*(exceeds limit|declares)"):
        read_image(tmp_path / "bomb.png")
    # A sparse file of 40 GB in name only.
    with (tmp_path / "bomb.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (100_000, 100_000)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match=r"bomb\.npy declares 100000 x 100000"):
        read_image(tmp_path / "bomb.npy")
    tifffile.imwrite(tmp_path / "bomb.tif", np.zeros((8, 8), np.uint8), metadata=None)
    with tifffile.TiffFile(tmp_path / "bomb.tif", mode="r+b") as tiff:
        tiff.pages.first.tags["ImageWidth"].overwrite(60_000, dtype="I")
        tiff.pages.first.tags["ImageLength"].overwrite(60_000, dtype="I")
    for read in (read_image, read_labels):
        with pytest.raises(InputError, match=r"bomb\.tif declares 60000 x 60000"):
            read(tmp_path / "bomb.tif")


def test_the_bound_on_pixels_can_be_set(tmp_path):
    for name in ("a.png", "a.tif", "a.npy"):
        path = write(tmp_path / name, GREY)
        assert read_image(path, max_pixels=30).shape == (6, 5, 1)
        with pytest.raises(InputError, match=f"{name} declares 6 x 5 pixels, more than 29"):
            read_image(path, max_pixels=29)


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy holds Python objects"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.jpg", "a.bmp"])
@pytest.mark.parametrize("length", [0, 20, 0.7])
def test_truncated_files_are_named(tmp_path, name, length):
    noise = RNG.integers(0, 255, (64, 64), np.uint8)
    path = write(tmp_path / name, noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(length if length > 1 else length * len(content))])
    with pytest.raises(InputError, match=f"{name} (cannot be read|declares 64 x 64 pixels, but holds)"):
        read_image(path)


def test_a_file_under_a_false_name_is_refused(tmp_path):
    write(tmp_path / "a.png", GREY).rename(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif cannot be read"):
        read_image(tmp_path / "a.tif")
    write(tmp_path / "b.tif", GREY).rename(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png cannot be read"):
        read_image(tmp_path / "b.png")


def test_missing_and_unknown_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.png does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(InputError, match=r"none\.png does not exist"):
        read_labels(tmp_path / "none.png")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"a\.txt is of an unknown type"):
        read_image(tmp_path / "a.txt")
    for shape in [(3,), (2, 2, 2, 2)]:
        with pytest.raises(InputError, match=r"of shape .* not an image"):
            read_image(write(tmp_path / "a.npy", np.zeros(shape, np.uint8)))
    with pytest.raises(InputError, match="empty"):
        read_image(write(tmp_path / "a.npy", np.zeros((0, 4), np.uint8)))
    with pytest.raises(InputError, match="complex128 are not"):
        read_image(write(tmp_path / "a.npy", np.zeros((4, 4), complex)))


def test_a_tiff_that_lies_about_its_size_is_refused(tmp_path):
    for options in ({}, {"compression": "zlib"}):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.zeros((8, 8), np.uint8), rowsperstrip=8, metadata=None, **options)
        content = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as tiff:
            for name in ("ImageWidth", "ImageLength"):
                tag = tiff.pages[0].tags[name]
                content[tag.valueoffset : tag.valueoffset + 4] = (10_000).to_bytes(4, "little")
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"a\.tif declares 10000 x 10000 pixels, but holds data for fewer"
        ):
            read_image(path)


@pytest.mark.parametrize("read", [read_image, read_labels])
def test_tiles_that_were_never_written_are_no_zeros(tmp_path, read):
    tiles = [np.full((16, 16), 7, np.uint8), None, None, np.full((16, 16), 8, np.uint8)]
    options = {"shape": (32, 32), "dtype": np.uint8, "tile": (16, 16), "compression": "zlib"}
    tifffile.imwrite(tmp_path / "a.tif", iter(tiles), **options)
    with pytest.raises(InputError, match=r"a\.tif holds no data for 2 of its 4 strips or tiles") as error:
        read(tmp_path / "a.tif")
    assert error.value.kind == "truncated"


def test_a_tiff_that_ends_inside_a_strip_of_jpeg_is_refused(tmp_path):
    blocks = np.kron(RNG.integers(0, 255, (16, 16, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    path = write(tmp_path / "a.tif", blocks, compression="jpeg", rowsperstrip=64)
    assert read_image(path).shape == (128, 128, 3)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        cut = page.dataoffsets[1] + page.databytecounts[1] // 4
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.tif ends inside a strip or tile of JPEG") as error:
        read_image(path)
    assert error.value.kind == "truncated"


def test_one_plane_for_each_axis():
    with pytest.raises(InputError, match="--axis=Z=1,t=0,z=2 names the axis Z twice: choose one plane of it"):
        parse_planes(["Z=1", "t=0", "z=2"])


def test_the_number_of_an_axis_of_stacks_leaves_images_as_they_are(tmp_path):
    stack = RNG.integers(0, 255, (5, 8, 7), np.uint8)
    many = RNG.integers(0, 255, (5, 8, 7, 3), np.uint8)
    colour = write(tmp_path / "colour.npy", COLOUR[..., :3])
    for options in ({}, {"channel_axis": -1}):
        np.testing.assert_array_equal(read_image(colour, planes={"0": 3}, **options), COLOUR[..., :3])
        read = read_image(write(tmp_path / "stack.npy", stack), planes={"0": 3}, **options)
        np.testing.assert_array_equal(read[..., 0], stack[3])
        read = read_image(write(tmp_path / "many.npy", many), planes={"0": 3}, **options)
        np.testing.assert_array_equal(read, many[3])
    np.testing.assert_array_equal(read_image(colour, channel_axis=0), np.moveaxis(COLOUR[..., :3], 0, -1))


def test_planes_of_axes_with_the_same_name_are_chosen_by_number(tmp_path):
    stack = RNG.integers(0, 255, (4, 5, 8, 9), np.uint8)
    path = write(tmp_path / "a.tif", stack, metadata={"axes": "QQYX"})
    with pytest.raises(
        InputError, match=r"a\.tif has several axes Q, with the numbers 0 and 1: .*--axis=0=0,1=0"
    ):
        read_image(path, planes={"Q": 3})
    np.testing.assert_array_equal(read_image(path, planes={"0": 3, "1": 2})[..., 0], stack[3, 2])


def test_an_array_of_fewer_than_two_axes_is_no_image(tmp_path):
    for shape in ((), (7,)):
        np.save(tmp_path / "a.npy", np.zeros(shape))
        with pytest.raises(InputError, match=r"a\.npy holds an array of shape \(.*\), not an image$"):
            read_image(tmp_path / "a.npy")
