"""Names of the files that a prediction writes, and the mark in them: other files are no results."""

from __future__ import annotations

import json
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tifffile
from PIL import Image
from pyarrow import parquet

from segjax.errors import InputError

SOFTWARE = "segjax predict"
# Names of the files of one image. `stem` is its name without suffix, `frame` its number in its folder.
LABELS, CLASSES, OVERLAY = "{stem}_labels.tif", "{stem}_classes.tif", "{stem}_overlay.png"
UNCERTAINTY, TABLE = "{stem}_uncertainty.tif", "{stem}_measurements.csv"
OME_TIFF, OME_ZARR = "{stem}_cells.ome.tif", "{stem}_cells.ome.zarr"
GEOJSON, ROIS, PARQUET = "{stem}_cells.geojson", "{stem}_rois.zip", "{stem}_cells.parquet"
SVG, CUTOUTS, TISSUE = "{stem}_overlay.svg", "{stem}_cutouts.zip", "{stem}_tissue.png"
# The folder and the name that the Cell Tracking Challenge asks for.
FRAMES = "01_RES"
FRAME = FRAMES + "/mask{frame:03}.tif"
BY_STEM = (
    *(LABELS, CLASSES, OVERLAY, UNCERTAINTY, TABLE),
    *(OME_TIFF, OME_ZARR, GEOJSON, ROIS, PARQUET, SVG, CUTOUTS, TISSUE),
)
ENDINGS = tuple(pattern.removeprefix("{stem}") for pattern in BY_STEM)
# The ids of files and cells are derived from it and the name of the image, so that all runs have the same.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, SOFTWARE)
# Number of bytes at the start of a text file that contain the mark.
HEAD = 256


def result_path(pattern: str, stem: Path, frame: int = 0) -> Path:
    """Returns the path of a result.

    Args:
      pattern: one of the names above, such as `LABELS`.
      stem: the folder of the results, with the name of the image without suffix.
      frame: number of the image in its folder, for `FRAME`.

    >>> result_path(LABELS, Path("out/cell")).as_posix(), result_path(FRAME, Path("out/cell"), 7).as_posix()
    ('out/cell_labels.tif', 'out/01_RES/mask007.tif')
    """
    return stem.parent / pattern.format(stem=stem.name, frame=frame)


def is_result(path: Path) -> bool:
    """Returns whether a file has the name of a result and a mark, see `has_mark`."""
    is_named = path.name.endswith(ENDINGS) or path.parent.name == FRAMES
    return is_named and has_mark(path)


def has_mark(path: Path) -> bool:
    """Returns whether a prediction wrote a file.

    Programs that write a TIFF or a PNG again leave the mark out. Programs that change another file in place
    may leave the mark in it; `WrittenFiles` of `segjax.experiment` detects them by digests.

    Args:
      path: a file with the suffix of one of the exports, or the folder of an OME-Zarr.
    """
    try:
        return MARKS[path.suffix](path)
    except Exception:  # a damaged file, which is no result
        return False


def takes_mark(path: Path) -> bool:
    """Returns whether predictions write a mark into files of this name; tables alone have none."""
    return path.suffix in MARKS and (path.suffix != ".parquet" or path.name.endswith(ENDINGS))


def check_replaceable(path: Path) -> None:
    """Refuses to replace a file that was not written by a prediction, such as an annotation.

    Raises:
      InputError: if the file exists and has no mark.
    """
    if path.exists() and not has_mark(path):
        raise InputError(
            f"{path} exists, and was not written by segjax predict or was changed since: move it, or give"
            " another --out"
        )


def _tiff(path: Path) -> bool:
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages.first.software == SOFTWARE


def _png(path: Path) -> bool:
    with Image.open(path, formats=("PNG",)) as picture:
        return picture.info.get("Software") == SOFTWARE


def _text(path: Path) -> bool:
    with path.open("rb") as file:
        return SOFTWARE.encode() in file.read(HEAD)


def _zip(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.comment == SOFTWARE.encode()


def _parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return parquet.read_schema(file).metadata.get(b"software") == SOFTWARE.encode()


def _zarr(path: Path) -> bool:
    attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
    if attributes.get("software") != SOFTWARE:
        return False
    labels = path / "labels"
    # That of a large image is the label image itself.
    if "image-label" in attributes["ome"]:
        return not labels.exists()
    return {child.name for child in labels.iterdir() if child.is_dir()} == {"cells"}


MARKS: dict[str, Callable[[Path], bool]] = {
    ".tif": _tiff,
    ".png": _png,
    ".geojson": _text,
    ".svg": _text,
    ".zip": _zip,
    ".parquet": _parquet,
    ".zarr": _zarr,
}


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder; at the end it replaces `path`, a folder of an earlier result.

    Raises:
      OSError: if the folder cannot be written; its `filename` is `path`, or the folder that cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden names are no inputs; with the suffix, the folder counts as one image, so no file in it is one.
    new, old = (path.with_name(f".{uuid.uuid4().hex}{path.suffix}") for _ in range(2))
    try:
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    except OSError as error:
        if error.filename is None or str(new) in str(error.filename):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
