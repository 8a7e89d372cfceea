"""Remembers which images a prediction has finished, so that the same command does not repeat them."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from segjax.classical.measurements import Table
from segjax.data.readers import unreadable
from segjax.files import atomic_write, content_digest
from segjax.inference import coco
from segjax.segmentation import Segmentation
from segjax.settings import Count, NonNegativeInt, broken_rule

FOLDER = ".segjax"
# Formats whose files have the same names in a series, by the flag of the series, and in a plain prediction.
SHARED, SERIES = ("overlay", "ctc"), ("--frames", "--stack")
ARRAYS = ("labels", "classes", "scores", "semantic")
ABOUT = b"segjax"


class Origin(NamedTuple):
    """The image of a result, and how it was segmented.

    Attributes:
      name: its name in the tables of all images.
      source: absolute path of its file, without links.
      method: the digest of the method and how the file becomes an image; "" if the former is unknown.
    """

    name: str
    source: str
    method: str


class Finished(NamedTuple):
    """A finished image.

    Attributes:
      digest: digest of everything that determines the result: the file and the method.
      instances: number of instances.
      shape: `(H, W)`.
      table: measurements of its instances, None if they were not measured.
      exports: the formats that are written, each with the settings that its files depend on.
      annotations: its instances in COCO's format, None if they were not converted.
      origin: the image; None in the results of series and of earlier versions.
    """

    digest: str
    instances: int
    shape: tuple[int, int]
    table: Table | None
    exports: Mapping[str, Mapping[str, Any]]
    annotations: Sequence[coco.Annotation] | None
    origin: Origin | None = None


class Outcome(NamedTuple):
    """The outcome of an image: it is finished, or it failed.

    Attributes:
      finished: the finished image; None if it failed.
      reason: why it failed; "" if it did not.
      is_repeated: whether an earlier run finished it.
    """

    finished: Finished | None
    reason: str = ""
    is_repeated: bool = False


class Predicted(NamedTuple):
    """The prediction of a method for an image.

    Attributes:
      segmentation: [H, W], the instances.
      annotations: the instances of a detector in COCO's format, which may overlap; None for other methods.
      uncertainty: [H, W] float16, the uncertainty of each pixel; None if it is unknown.
    """

    segmentation: Segmentation
    annotations: Sequence[coco.Annotation] | None = None
    uncertainty: np.ndarray | None = None


def input_digest(path: Path, method: str, reading: object) -> str:
    """Returns a digest of all that determines the result for an image: its file, the method and the reading.

    Raises:
      InputError: if the file cannot be read.
    """
    try:
        content = content_digest(path)
    except OSError as error:
        raise unreadable(path, error) from error
    return hashlib.sha256(f"{content} {method} {reading}".encode()).hexdigest()


class FinishedImages:
    """The finished images in a folder of results, two hidden files for each.

    Args:
      out: the folder of results.
      name: name of the hidden folder in it.
    """

    def __init__(self, out: Path, name: str = FOLDER) -> None:
        self._folder = out / name

    def write(self, key: str, image: Finished) -> None:
        """Stores a finished image, atomically."""
        columns = {name: pa.array(values) for name, values in (image.table or {}).items()}
        about = image._asdict() | {"table": image.table is not None}
        table = pa.table(columns).replace_schema_metadata({ABOUT: json.dumps(about).encode()})
        # Arrow opens only files whose path is UTF-8.
        with atomic_write(self._path(key)) as tmp_path, tmp_path.open("wb") as file:
            parquet.write_table(table, file)

    def stored(self, key: str, outcome: Outcome, name: str, path: Path, method: str) -> Outcome:
        """Stores the image of an outcome, with its origin, unless that is stored already.

        Args:
          key: the key of the image.
          outcome: what a run made of it.
          name: its name in tables.
          path: its file.
          method: see `Origin`.

        Returns:
          The outcome with the stored image.
        """
        image, origin = outcome.finished, Origin(name, os.path.realpath(path), method)
        if image is None or (outcome.is_repeated and image.origin == origin):
            return outcome
        self.write(key, image._replace(origin=origin))
        return outcome._replace(finished=image._replace(origin=origin))

    def read(self, key: str) -> Finished | None:
        """Returns a finished image, None if it is not finished or its file is damaged."""
        path = self._path(key)
        return _read(path) if path.exists() else None

    def others(self, keys: Iterable[str]) -> Iterator[Finished]:
        """Yields the finished images that have other keys, in no particular order."""
        left_out = {self._path(key) for key in keys}
        for path in self._folder.glob("*.parquet"):
            if path not in left_out and (image := _read(path)) is not None:
                yield image

    def write_predicted(self, key: str, predicted: Predicted) -> None:
        """Stores the prediction for an image, so that further formats can be written without predicting."""
        arrays = {name: getattr(predicted.segmentation, name) for name in ARRAYS}
        arrays["annotations"] = np.frombuffer(json.dumps(predicted.annotations).encode(), np.uint8)
        if predicted.uncertainty is not None:
            arrays["uncertainty"] = predicted.uncertainty
        self.write_arrays(key, arrays)

    def read_predicted(self, key: str) -> Predicted | None:
        """Returns the prediction for an image; None if it is not stored, or its file is damaged."""
        stored = self.read_arrays(key)
        if stored is None:
            return None
        try:
            segmentation = Segmentation(**{name: stored[name] for name in ARRAYS})
            annotations = json.loads(stored["annotations"].tobytes())
        except (ValueError, TypeError, KeyError):
            return None
        return Predicted(segmentation, annotations, stored.get("uncertainty"))

    def write_arrays(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Stores arrays by their names, atomically."""
        with atomic_write(self._path(key, ".npz")) as tmp_path:
            np.savez_compressed(tmp_path, **arrays)  # type: ignore[arg-type]

    def read_arrays(self, key: str) -> dict[str, np.ndarray] | None:
        """Returns arrays by their names, None if they are not stored or their file is damaged."""
        try:
            with self._path(key, ".npz").open("rb") as file, np.load(file) as stored:
                return dict(stored)
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def folder_of(self, key: str) -> Path:
        """Returns the folder of the tiles of a large image."""
        return self._path(key, ".tiles")

    def forget(self, key: str) -> None:
        """Marks an image as not finished, before its results are replaced."""
        self._path(key).unlink(missing_ok=True)

    def release(self, key: str, formats: Collection[str]) -> None:
        """Marks formats of an image as not written, before their files are replaced."""
        image = self.read(key)
        if image is not None and not image.exports.keys().isdisjoint(formats):
            left = {name: value for name, value in image.exports.items() if name not in formats}
            self.write(key, image._replace(exports=left))

    def forget_series(self, folder: str) -> None:
        """Marks the series of a folder as not finished, before files of them are replaced."""
        for flag in SERIES:
            self.forget(f"{folder} {flag}")

    def release_series(self, key: str, formats: Collection[str]) -> None:
        """Marks the series of an image as not finished, if formats replace files of them."""
        if not set(SHARED).isdisjoint(formats):
            self.forget_series(key.rpartition("/")[0])

    def _path(self, key: str, suffix: str = ".parquet") -> Path:
        # A digest, because the name of an image may already be as long as a name can be.
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / f"{digest}{suffix}"


def _read(path: Path) -> Finished | None:
    try:
        with path.open("rb") as file:
            stored = parquet.read_table(file)
        about = json.loads(stored.schema.metadata[ABOUT])
        table = {name: _values(stored[name]) for name in stored.column_names} if about["table"] else None
        shape, origin = tuple(about["shape"]), about.get("origin")
        if broken_rule(about["instances"], NonNegativeInt) or broken_rule(shape, tuple[Count, Count]):
            return None
        if origin is not None and broken_rule(origin := Origin(*origin), tuple[str, str, str]):
            return None
        if not all(isinstance(settings, dict) for settings in about["exports"].values()):
            return None
        return Finished(**about | {"shape": shape, "table": table, "origin": origin})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _values(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.str_) if pa.types.is_string(column.type) else column.to_numpy()
