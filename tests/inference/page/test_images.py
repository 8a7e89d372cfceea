"""Files that the page reads and writes."""

import base64
import csv
import io

import imagecodecs
import numpy as np
import pytest
import tifffile

from segjax.data.readers import read_image
from segjax.report.overlays import to_display_rgb
from tests.inference.page.scripts import needs_node, run

pytestmark = needs_node
SCRIPTS = ("grid.js", "prepare.js", "images.js")
RNG = np.random.default_rng(0)
GREY, COLOUR = RNG.integers(0, 2**16, (21, 34)), RNG.integers(0, 2**16, (21, 34, 3))
BODY = """return Promise.all(input.files.map(async ({name, content}) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  try {
    return await readImage({name, arrayBuffer: async () => bytes.buffer});
  } catch (error) {
    return {error: error.message};
  }
}));"""


def png(array):
    return imagecodecs.png_encode(np.ascontiguousarray(array), level=6)


def tiff(array, **options):
    buffer = io.BytesIO()
    options.setdefault("photometric", "rgb" if array.shape[-1] in (3, 4) else "minisblack")
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def float_differences(array):
    """A TIFF of floats whose bits are stored as differences, as libtiff writes them with predictor 2."""
    content = tiff(array.view(np.int32), compression="zlib", predictor=2, byteorder="<")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        at = file.pages[0].tags["SampleFormat"].valueoffset
    return content[:at] + b"\3" + content[at + 1 :]


READ = {
    "8.png": png((GREY >> 8).astype(np.uint8)),
    "16.png": png(GREY.astype(np.uint16)),
    "colour.png": png((COLOUR >> 8).astype(np.uint8)),
    "colour16.png": png(COLOUR.astype(np.uint16)),
    "alpha.png": png(np.dstack([COLOUR, GREY]).astype(np.uint16)),
    # Rows of slopes, for which libpng chooses filters other than 0.
    "smooth.png": png((np.add.outer(np.arange(90) * 2, np.arange(80)) % 256).astype(np.uint8)),
    "8.tif": tiff((GREY >> 8).astype(np.uint8)),
    "16.tif": tiff(GREY.astype(np.uint16)),
    "big_endian.tif": tiff(GREY.astype(">u2"), byteorder=">"),
    "signed.tif": tiff(GREY.astype(np.int16)),
    "float.tif": tiff((GREY / 7).astype(np.float32)),
    "float_differences.tif": float_differences(RNG.normal(0, 9, (21, 34)).astype(np.float32)),
    "colour.tif": tiff(COLOUR.astype(np.uint16), compression="zlib", predictor=True),
    "strips.tif": tiff(COLOUR.astype(np.uint16), rowsperstrip=4),
    "tiles.tif": tiff(GREY.astype(np.uint16), tile=(16, 16), compression="zlib"),
    # More strings than the table of LZW holds, a string that is used while it is defined, and differences.
    "lzw.tif": tiff(RNG.integers(0, 2**16, (90, 110)).astype(np.uint16), compression="lzw"),
    "lzw_constant.tif": tiff(np.full((120, 130), 7, np.uint8), compression="lzw"),
    "lzw_tiles.tif": tiff(COLOUR.astype(np.uint16), compression="lzw", predictor=True, tile=(16, 16)),
    "alpha.tif": tiff(np.dstack([COLOUR, GREY]).astype(np.uint16), extrasamples=["unassalpha"]),
}
REFUSED = {
    "stack.tif": (tiff(np.stack([GREY, GREY]).astype(np.uint16)), "holds several images"),
    "zstd.tif": (tiff(GREY.astype(np.uint16), compression="zstd"), "is compressed in a way"),
    "damaged_lzw.tif": (
        tiff(np.full((120, 130), 7, np.uint8), compression="lzw")[:-9] + 9 * b"\xff",
        "is damaged",
    ),
    "nan.tif": (tiff(np.full((4, 4), np.nan, np.float32)), "holds NaN or infinite pixels"),
    "planes.tif": (
        tiff(COLOUR.astype(np.uint8).transpose(2, 0, 1).copy(), planarconfig="separate", photometric="rgb"),
        "stores channels apart",
    ),
    "double.tif": (tiff(GREY.astype(np.float64)), "has 64 bits"),
    "cut.tif": (READ["16.tif"][:400], "is damaged"),
    "cut_inside.tif": (READ["tiles.tif"][:-900], "is damaged"),
    "cut.png": (READ["16.png"][:300], "ends too early"),
    "text.txt": (b"no image at all, but some text that is long enough", "is no image that this page reads"),
}


@pytest.fixture(scope="module")
def answers():
    files = READ | {name: content for name, (content, _) in REFUSED.items()}
    contents = [
        {"name": name, "content": base64.b64encode(content).decode()} for name, content in files.items()
    ]
    return dict(zip(files, run(SCRIPTS, BODY, files=contents), strict=True))


@pytest.mark.parametrize("name", READ)
def test_files_are_read_as_by_python(answers, tmp_path, name):
    (tmp_path / name).write_bytes(READ[name])
    expected = read_image(tmp_path / name)
    got = answers[name]
    assert (got["height"], got["width"], got["channels"]) == expected.shape
    np.testing.assert_array_equal(np.reshape(got["pixels"], expected.shape), expected)


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_in_one_sentence(answers, name):
    assert answers[name]["error"].startswith(name)
    assert REFUSED[name][1] in answers[name]["error"]


def test_channels_are_matched_and_shown():
    grey, colour = GREY[:4, :5, None].astype(np.uint16), COLOUR[:4, :5].astype(np.uint16)
    images = [
        {"pixels": pixels, "width": 5, "height": 4, "channels": pixels.shape[-1]}
        for pixels in (grey, colour, np.repeat(grey, 3, -1))
    ]
    body = """const [grey, colour, equal] = input.images;
    let refusal = null;
    try { matchChannels(colour, 1); } catch (error) { refusal = error.message; }
    const matched = [matchChannels(grey, 3).pixels, matchChannels(equal, 1).pixels];
    return [...matched, refusal, displayedPixels(grey), displayedPixels(colour)];"""
    repeated, single, refusal, *shown = run(SCRIPTS, body, images=images)
    np.testing.assert_array_equal(np.reshape(repeated, (4, 5, 3)), np.repeat(grey, 3, -1))
    np.testing.assert_array_equal(np.reshape(single, (4, 5, 1)), grey)
    assert refusal == ("the image has 3 channels, but the network was trained on 1: give an image of 1")
    for picture, image in zip(shown, (grey, colour), strict=True):
        rgba = np.reshape(picture, (4, 5, 4))
        np.testing.assert_allclose(rgba[..., :3], to_display_rgb(image), atol=1)
        assert (rgba[..., 3] == 255).all()


def test_labels_and_tables_are_read_by_other_programs(tmp_path):
    labels = np.array([[0, 1, 1], [2, 0, 70_000]], np.int32)
    cells = [{"id": 1, "class": 1, "area": 2, "x": 1.5, "y": 0, "score": 0.75}]
    body = """return [labelTiff(input.labels, 3, 2, 2), labelTiff(input.labels, 3, 2, 70000),
      cellTable(input.cells, ["background", "=cell, \\"large\\""])];"""
    small, large, table = run(("downloads.js",), body, labels=labels, cells=cells)
    for name, content, dtype in (("small.tif", small, np.uint16), ("large.tif", large, np.uint32)):
        (tmp_path / name).write_bytes(bytes(content))
        read = tifffile.imread(tmp_path / name)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, labels.astype(dtype))
    (row,) = csv.DictReader(io.StringIO(table))
    assert row == {
        "id": "1",
        "class": '\'=cell, "large"',
        "area_px": "2",
        "centroid_x_px": "1.50",
        "centroid_y_px": "0.00",
        "score": "0.7500",
    }
