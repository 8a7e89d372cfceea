"""Writes the label image of a large image at several resolutions, chunk by chunk: OME-TIFF and OME-Zarr."""

from __future__ import annotations

import functools
import gzip
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import imagecodecs
import numpy as np
import tifffile

from segjax.files import atomic_write
from segjax.inference.exports.marks import SOFTWARE, atomic_folder
from segjax.inference.exports.ome import about_labels, describe_array, describe_levels, write_group
from segjax.inference.large.cells import LargeCells
from segjax.inference.large.grid import CHUNK, Box
from segjax.inference.ordered import in_order

# Channels of an OME-TIFF, the id and the class of each pixel; an OME-Zarr has the first alone.
CHANNELS = 2


class Key(NamedTuple):
    """Position of a chunk: level (0 is the finest), channel, and row and column of the chunk in the level."""

    level: int
    channel: int
    row: int
    column: int


class Chunks(Protocol):
    """Compressed chunks [CHUNK, CHUNK] uint32 of a label image; a missing chunk has zeros."""

    channels: int

    def encode(self, chunk: np.ndarray) -> bytes:
        """Compresses a chunk; threads call it."""

    def put(self, key: Key, encoded: bytes) -> None:
        """Adds a chunk."""

    def get(self, key: Key) -> np.ndarray | None:
        """Returns a chunk, None if it is missing."""


def write_ome_tiff(cells: LargeCells, path: Path) -> None:
    """Writes a tiled OME-TIFF, uint32, with the id and the class of each pixel at several resolutions."""
    shapes = _shapes(cells)
    with (
        atomic_write(path) as tmp_path,
        tempfile.TemporaryFile(dir=path.parent) as scratch,
        tifffile.TiffWriter(tmp_path, ome=True, bigtiff=True) as tiff,
    ):
        chunks = _TiffChunks(scratch)
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


def write_ome_zarr(cells: LargeCells, path: Path) -> None:
    """Writes an OME-Zarr 0.5 of Zarr v3, uint32, with the id of each pixel at several resolutions.

    The folder is a label image. It does not have the image itself.
    """
    shapes = _shapes(cells)
    with atomic_folder(path) as folder:
        for level, shape in enumerate(shapes):
            describe_array(folder / str(level), shape, "yx", np.dtype(np.uint32), (CHUNK, CHUNK))
        levels = describe_levels(len(shapes), "yx", cells.measuring.pixel_size)
        write_group(folder, {"software": SOFTWARE, "ome": {**levels, "image-label": {}}})
        _fill(_ZarrChunks(folder), cells, shapes)


def _shapes(cells: LargeCells) -> list[tuple[int, int]]:
    """Returns the shape of each level: each has every second pixel of the one before."""
    shapes = [cells.composition.grid.shape]
    while max(shapes[-1]) > CHUNK:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return shapes


class _TiffChunks:
    """Chunks in a temporary file, because TIFF stores those of a channel one after the other.

    Args:
      file: a file to read and write.
    """

    channels = CHANNELS

    def __init__(self, file: Any) -> None:
        self._file = file
        # Offset and size of each chunk.
        self._index: dict[Key, tuple[int, int]] = {}
        self._empty = self.encode(np.zeros((CHUNK, CHUNK), "<u4"))

    def encode(self, chunk: np.ndarray) -> bytes:
        """Compresses a chunk."""
        return bytes(imagecodecs.zlib_encode(chunk.tobytes(), level=1))

    def put(self, key: Key, encoded: bytes) -> None:
        """Adds a chunk."""
        self._index[key] = (self._file.seek(0, 2), len(encoded))
        self._file.write(encoded)

    def get(self, key: Key) -> np.ndarray | None:
        """Returns a chunk, None if it is missing."""
        return None if key not in self._index else _decoded(imagecodecs.zlib_decode(self._read(key)))

    def encoded(self, level: int, shape: tuple[int, int]) -> Iterator[bytes]:
        """Yields the chunks of a level of this shape in the order in which TIFF stores them."""
        for key in _keys(level, self.channels, shape):
            yield self._read(key) if key in self._index else self._empty

    def _read(self, key: Key) -> bytes:
        offset, size = self._index[key]
        self._file.seek(offset)
        return self._file.read(size)


class _ZarrChunks:
    """Chunks in the files of Zarr arrays, one for each level.

    Args:
      folder: the folder of the arrays.
    """

    channels = 1

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def encode(self, chunk: np.ndarray) -> bytes:
        """Compresses a chunk."""
        return gzip.compress(chunk.tobytes(), 1, mtime=0)

    def put(self, key: Key, encoded: bytes) -> None:
        """Adds a chunk."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)

    def get(self, key: Key) -> np.ndarray | None:
        """Returns a chunk, None if it is missing."""
        path = self._path(key)
        return _decoded(gzip.decompress(path.read_bytes())) if path.exists() else None

    def _path(self, key: Key) -> Path:
        return self._folder / str(key.level) / "c" / str(key.row) / str(key.column)


def _fill(chunks: Chunks, cells: LargeCells, shapes: list[tuple[int, int]]) -> None:
    """Adds the chunks of all levels: each core is read once, and each level is made from the finer one."""
    composition = cells.composition

    def encoded(box: Box) -> list[tuple[Key, bytes]]:
        composed = composition.read(box)
        planes = (composed.labels, composed.semantic)[: chunks.channels]
        result = []
        for top, left in itertools.product(range(0, box.shape[0], CHUNK), range(0, box.shape[1], CHUNK)):
            for channel, plane in enumerate(planes):
                part = plane[top : top + CHUNK, left : left + CHUNK]
                if part.any():
                    chunk = np.zeros((CHUNK, CHUNK), "<u4")
                    chunk[: part.shape[0], : part.shape[1]] = part
                    key = Key(0, channel, (box.top + top) // CHUNK, (box.left + left) // CHUNK)
                    result.append((key, chunks.encode(chunk)))
        return result

    for parts in in_order(functools.partial(encoded, tile.core) for tile in composition.tiles):
        for key, content in parts:
            chunks.put(key, content)
    for level, shape in enumerate(shapes[1:], start=1):
        for key in _keys(level, chunks.channels, shape):
            chunk = np.zeros((CHUNK, CHUNK), "<u4")
            for down, across in itertools.product((0, 1), repeat=2):
                finer = chunks.get(Key(level - 1, key.channel, 2 * key.row + down, 2 * key.column + across))
                if finer is not None:
                    chunk.reshape(2, CHUNK // 2, 2, CHUNK // 2)[down, :, across] = finer[::2, ::2]
            if chunk.any():
                chunks.put(key, chunks.encode(chunk))


def _keys(level: int, channels: int, shape: tuple[int, int]) -> Iterator[Key]:
    """Yields the positions of all chunks of a level of this shape."""
    rows, columns = (range(-(-length // CHUNK)) for length in shape)
    return itertools.starmap(Key, itertools.product((level,), range(channels), rows, columns))


def _decoded(content: bytes | bytearray) -> np.ndarray:
    return np.frombuffer(content, "<u4").reshape(CHUNK, CHUNK)
