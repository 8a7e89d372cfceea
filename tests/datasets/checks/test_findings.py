import io
import json
import re
import struct
import zlib
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data import readers
from segjax.data.readers import read_image, read_labels
from segjax.datasets.checks import findings
from segjax.datasets.checks.files import check_file
from segjax.datasets.checks.findings import KINDS, finding_of
from segjax.datasets.formats import open_annotations
from segjax.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (32, 32), np.uint8)
COLOUR = RNG.integers(0, 255, (32, 32, 3), np.uint8)


def test_every_kind_has_a_title_an_action_and_a_remedy():
    assert len(KINDS) >= 20
    for kind in KINDS.values():
        assert kind.action in ("note", "repair", "quarantine")
        assert kind.title[0].isupper()
        assert kind.remedy[0].islower()
        assert not (kind.title + kind.remedy).endswith(".")


def content(suffix):
    file = io.BytesIO()
    if suffix == ".npy":
        np.save(file, GREY)
    elif suffix == ".tif":
        tifffile.imwrite(file, GREY)
    elif suffix == "deep.png":
        return imagecodecs.png_encode(COLOUR.astype(np.uint16) * 200)
    else:
        Image.fromarray(GREY if suffix == ".png" else COLOUR).save(
            file, Image.registered_extensions()[suffix]
        )
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".png", "deep.png", ".jpg", ".bmp", ".tif", ".npy"])
def test_files_that_end_too_early(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content(suffix))
    assert check_file(path) == []
    assert check_file(str(path)) == []
    path.write_bytes(content(suffix)[:-80])
    with pytest.raises(InputError) as error:
        read_image(path)
    finding = finding_of(error.value)
    assert finding.kind == "truncated"
    assert str(path) in finding.detail
    assert KINDS["truncated"].action == "quarantine"


def test_strips_beyond_the_end_are_found_before_decoding(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, compression="zlib", rowsperstrip=8)
    path.write_bytes(path.read_bytes()[:700])
    (finding,) = check_file(path)
    assert finding.kind == "truncated"
    assert "of 4 strips" in finding.detail


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_files_of_no_bytes(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert check_file(path) == [("empty_file", "0 bytes")]


def test_files_that_are_not_there(tmp_path):
    (finding,) = check_file(tmp_path / "a.png")
    assert finding == ("missing_file", f"{tmp_path / 'a.png'} cannot be read (No such file or directory)")


def test_files_that_are_something_else(tmp_path):
    for suffix in (".png", ".tif"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"<html>not found</html>")
        assert check_file(path) == []  # the reader says it
        with pytest.raises(InputError) as error:
            read_image(path)
        assert finding_of(error.value).kind == "unreadable"


def test_drawings_on_a_transparent_layer(tmp_path):
    path = tmp_path / "a.png"
    layer = np.zeros((8, 8, 4), np.uint8)
    layer[2:5, 2:5, 3] = 255
    Image.fromarray(layer).save(path)
    assert check_file(path) == [("alpha_only", "every pixel has one colour, transparency goes from 0 to 255")]
    layer[3, 3, 0] = 9
    Image.fromarray(layer).save(path)
    assert check_file(path) == []


def declares(width, height):
    """A PNG of this size without pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(b""), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


@pytest.mark.parametrize(
    ("kind", "name", "write", "read"),
    [
        (
            "too_large",
            "a.png",
            lambda path: path.write_bytes(declares(9, 9)),
            partial(read_image, max_pixels=80),
        ),
        ("too_large", "a.png", lambda path: path.write_bytes(declares(60_000, 60_000)), read_image),
        ("no_pixels", "a.npy", lambda path: np.save(path, GREY[:0]), read_image),
        ("not_finite", "a.npy", lambda path: np.save(path, np.full((3, 3), np.nan)), read_image),
        ("unclear_axes", "a.npy", lambda path: np.save(path, np.zeros((2, 2, 2, 2))), read_image),
        ("unclear_axes", "a.npy", lambda path: np.save(path, np.zeros((2, 2, 900))), read_image),
        ("unclear_axes", "a.tif", lambda path: tifffile.imwrite(path, np.stack([GREY] * 5)), read_image),
        ("lossy_mask", "a.jpg", lambda path: Image.fromarray(GREY).save(path), read_labels),
        ("invalid_ids", "a.npy", lambda path: np.save(path, GREY / 7), read_labels),
        ("invalid_ids", "a.npy", lambda path: np.save(path, GREY.astype(int) - 9), read_labels),
        ("unreadable", "a.txt", lambda path: path.write_text("x"), read_image),
    ],
)
def test_errors_of_readers_have_a_kind(tmp_path, kind, name, write, read):
    path = tmp_path / name
    write(path)
    with pytest.raises(InputError) as error:
        read(path)
    assert finding_of(error.value).kind == kind


@pytest.mark.parametrize(
    ("kind", "key", "format"),
    [
        ("size_mismatch", "small", "labels"),
        ("two_masks", "twice", "labels"),
        ("missing_mask", "none", "labels"),
        ("missing_mask", "none", "instances"),
        ("invalid_ids", "small", "colours"),
        ("invalid_ids", "ids", "binary"),
        ("truncated", "short", "labels"),
    ],
)
def test_errors_of_annotations_have_a_kind(tmp_path, kind, key, format):  # noqa: A002
    Image.fromarray(GREY[:8]).save(tmp_path / "small.png")
    Image.fromarray(GREY).save(tmp_path / "ids.png")
    for suffix, ids in ((".png", GREY), (".bmp", GREY // 2)):
        Image.fromarray(ids).save(tmp_path / f"twice{suffix}")
    (tmp_path / "short.png").write_bytes(content(".png")[:-80])
    (tmp_path / "folder").mkdir()
    annotations = open_annotations(tmp_path, format=format)
    with pytest.raises(InputError) as error:
        annotations.read(key, GREY.shape)
    assert finding_of(error.value).kind == kind


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("size_mismatch", {"imageHeight": 9}),
        (
            "invalid_class",
            {"shapes": [{"label": "nucelus", "points": [[1, 1], [4, 4]], "shape_type": "rectangle"}]},
        ),
        ("invalid_annotation", {"imagePath": "other.png"}),
    ],
)
def test_errors_of_outlines_have_a_kind(tmp_path, kind, change):
    document = {"shapes": [], "imagePath": "a.png", "imageHeight": 32, "imageWidth": 32}
    (tmp_path / "a.json").write_text(json.dumps(document | change))
    annotations = open_annotations(tmp_path, format="labelme", class_names=("background", "nucleus"))
    with pytest.raises(InputError) as error:
        annotations.read("a", GREY.shape)
    assert finding_of(error.value).kind == kind


def test_an_error_without_kind_or_message_is_unreadable():
    assert finding_of(InputError("")) == ("unreadable", "InputError")
    assert finding_of(OSError("gone; look elsewhere")) == ("unreadable", "gone")


def test_every_kind_is_raised_and_every_raised_kind_exists():
    package = Path(findings.__file__).parents[1]
    folders = ("checks", "formats", "folder")
    sources = [
        *(path for folder in folders for path in package.glob(f"{folder}/*.py")),
        *Path(readers.__file__).parent.glob("*.py"),
    ]
    text = "".join(path.read_text() for path in sources if path.name != "findings.py")
    assert [kind for kind in KINDS if f'"{kind}"' not in text and kind != "unreadable"] == []
    raised = set(re.findall(r'kind="(\w+)"|Finding\("(\w+)"', text))
    assert {name for pair in raised for name in pair if name} <= set(KINDS)
