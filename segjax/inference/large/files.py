"""Writes the cells of a large image to files, tile by tile: label image, table and outlines."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import tifffile
from pyarrow import csv, parquet

from segjax.classical.measurements import Table
from segjax.files import atomic_write
from segjax.inference.exports.geojson import feature
from segjax.inference.exports.geoparquet import geo_metadata, well_known_binary
from segjax.inference.exports.marks import NAMESPACE, SOFTWARE
from segjax.inference.exports.ome import about_labels
from segjax.inference.large.cells import LargeCells
from segjax.inference.large.grid import CHUNK, Box
from segjax.inference.ordered import in_order
from segjax.inference.tables import with_units, without_formulas

# The id and the class of each pixel.
CHANNELS = 2


def write_labels(cells: LargeCells, path: Path) -> None:
    """Writes a tiled OME-TIFF, uint32, with the id and the class of each pixel at several resolutions."""
    shape = cells.composition.grid.shape
    shapes = [shape]
    while max(shapes[-1]) > CHUNK:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    with (
        atomic_write(path) as tmp_path,
        tempfile.TemporaryFile(dir=path.parent) as scratch,
        tifffile.TiffWriter(tmp_path, ome=True, bigtiff=True) as tiff,
    ):
        chunks = _Chunks(scratch)
        _fill(chunks, cells, shapes)
        options: dict[str, Any] = {
            "dtype": np.uint32,
            "tile": (CHUNK, CHUNK),
            "compression": "zlib",
            "photometric": "minisblack",
        }
        about = about_labels(cells.name, cells.measuring.pixel_size)
        for level, size in enumerate(shapes):
            kind: dict[str, Any] = {"subfiletype": 1}
            if level == 0:
                kind = {"subifds": len(shapes) - 1, "metadata": about, "software": SOFTWARE}
            tiff.write(chunks.encoded(level, size), shape=(CHANNELS, *size), **options, **kind)


class _Chunks:
    """Compressed chunks of a label image at several resolutions, in a file.

    Args:
      file: a file to read and write.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        # Offset and size by level, channel, row and column of the chunk; missing chunks are zeros.
        self._index: dict[tuple[int, int, int, int], tuple[int, int]] = {}
        self._empty = _encode(np.zeros((CHUNK, CHUNK), np.uint32))

    def put(self, key: tuple[int, int, int, int], encoded: bytes | None) -> None:
        """Adds a chunk; None stands for zeros."""
        if encoded is not None:
            self._index[key] = (self._file.seek(0, 2), len(encoded))
            self._file.write(encoded)

    def get(self, key: tuple[int, int, int, int]) -> np.ndarray | None:
        """Returns a chunk [CHUNK, CHUNK] uint32; None stands for zeros."""
        if key not in self._index:
            return None
        content = imagecodecs.zlib_decode(self._read(key))
        return np.frombuffer(content, "<u4").reshape(CHUNK, CHUNK)

    def encoded(self, level: int, shape: tuple[int, int]) -> Iterator[bytes]:
        """Yields the compressed chunks of a level in the order in which TIFF stores them.

        Args:
          level: number of the level, 0 for the finest.
          shape: `(H, W)` of the level.
        """
        rows, columns = (range(-(-length // CHUNK)) for length in shape)
        for key in itertools.product((level,), range(CHANNELS), rows, columns):
            yield self._read(key) if key in self._index else self._empty

    def _read(self, key: tuple[int, int, int, int]) -> bytes:
        offset, size = self._index[key]
        self._file.seek(offset)
        return self._file.read(size)


def _fill(chunks: _Chunks, cells: LargeCells, shapes: list[tuple[int, int]]) -> None:
    """Adds the chunks of all levels: each core is read once, and each level is made from the finer one."""
    composition = cells.composition

    def encoded(box: Box) -> list[tuple[tuple[int, int, int, int], bytes | None]]:
        composed = composition.read(box)
        result = []
        for top, left in itertools.product(range(0, box.shape[0], CHUNK), range(0, box.shape[1], CHUNK)):
            for channel, plane in enumerate((composed.labels, composed.semantic)):
                part = plane[top : top + CHUNK, left : left + CHUNK]
                key = (0, channel, (box.top + top) // CHUNK, (box.left + left) // CHUNK)
                result.append((key, _encode(part) if part.any() else None))
        return result

    for parts in in_order(functools.partial(encoded, tile.core) for tile in composition.tiles):
        for key, content in parts:
            chunks.put(key, content)
    for level, shape in enumerate(shapes[1:], start=1):
        rows, columns = (range(-(-length // CHUNK)) for length in shape)
        for channel, row, column in itertools.product(range(CHANNELS), rows, columns):
            chunk = np.zeros((CHUNK, CHUNK), np.uint32)
            for down, across in itertools.product((0, 1), repeat=2):
                finer = chunks.get((level - 1, channel, 2 * row + down, 2 * column + across))
                if finer is not None:
                    quarter = chunk.reshape(2, CHUNK // 2, 2, CHUNK // 2)[down, :, across]
                    quarter[:] = finer[::2, ::2]
            chunks.put((level, channel, row, column), _encode(chunk) if chunk.any() else None)


def _encode(part: np.ndarray) -> bytes:
    chunk = np.zeros((CHUNK, CHUNK), "<u4")
    chunk[: part.shape[0], : part.shape[1]] = part
    return bytes(imagecodecs.zlib_encode(chunk.tobytes(), level=1))


def write_csv(cells: LargeCells, path: Path) -> None:
    """Writes the measurements as CSV, a row for each cell."""
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        rows = (without_formulas(pa.table(table)) for table in cells.tables())
        first = next(rows)
        with csv.CSVWriter(file, first.schema) as writer:
            for table in itertools.chain([first], rows):
                writer.write_table(table)


def write_parquet(cells: LargeCells, path: Path) -> None:
    """Writes measurements and outlines as GeoParquet, a row for each cell."""
    outlines = cells.outlines()

    def with_geometry(table: Table) -> pa.Table:
        polygons = itertools.islice(outlines, len(table["id"]))
        shapes = pa.array([well_known_binary(one) for _, one in polygons], pa.binary())
        rows = with_units(pa.table({**table, "geometry": shapes}))
        return rows.replace_schema_metadata(geo_metadata())

    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        rows = map(with_geometry, cells.tables())
        first = next(rows)
        with parquet.ParquetWriter(file, first.schema) as writer:
            for table in itertools.chain([first], rows):
                writer.write_table(table)


def write_geojson(cells: LargeCells, path: Path) -> None:
    """Writes a feature for each cell, in pixels of the image file's finest level; see `exports.geojson`."""
    stitched, image_id = cells.composition.stitched, uuid.uuid5(NAMESPACE, cells.name)
    with atomic_write(path) as tmp_path, tmp_path.open("w", encoding="utf-8") as file:
        file.write(f'{{"type":"FeatureCollection","software":"{SOFTWARE}","features":[')
        for cell, polygons in cells.outlines():
            index = int(stitched.classes[cell])
            content = feature(
                str(uuid.uuid5(image_id, str(cell + 1))),
                _scaled(polygons, cells.to_file),
                {"label": cell + 1, "score": round(float(stitched.scores[cell]), 6)},
                {"name": cells.measuring.class_names[index], "color": list(cells.colour_of(index))},
            )
            file.write(",\n" if cell else "\n")
            file.write(json.dumps(content, separators=(",", ":")))
        file.write("\n]}\n")


def _scaled(polygons: list[list[np.ndarray]], factor: float) -> list[list[np.ndarray]]:
    if factor == 1:
        return polygons
    return [[np.round(ring * factor, 3) for ring in polygon] for polygon in polygons]
