"""Reads large NumPy files item by item, from a folder or an archive, without pickle."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from segjax.data.readers import File
from segjax.data.readers.array import read_header
from segjax.errors import InputError


def iterate_array(file: File, item_shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Reads an array along its first axis.

    A file on disk is memory-mapped; a member of an archive is unpacked as a stream.

    Args:
      file: a .npy file of numbers in C order.
      item_shape: required shape of the array without its first axis.

    Yields:
      The items, each a copy.

    Raises:
      InputError: if the file is not such an array, or is truncated.
    """
    try:
        with file.open("rb") as stream:
            length, dtype = _check_header(stream, item_shape)
            if isinstance(file, Path):
                mapped = np.load(file, mmap_mode="r", allow_pickle=False)
                for index in range(length):
                    yield np.array(mapped[index])
                return
            size = math.prod(item_shape) * dtype.itemsize
            for index in range(length):
                content = stream.read(size)
                if len(content) < size:
                    raise ValueError(f"it ends inside item {index} of {length}")
                yield np.frombuffer(content, dtype).reshape(item_shape)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} cannot be read ({error}): download it again") from error


def _check_header(stream: IO[bytes], item_shape: tuple[int, ...]) -> tuple[int, np.dtype]:
    shape, fortran_order, dtype = read_header(stream)
    if dtype.kind not in "uif":
        raise ValueError(f"it holds {dtype}, not numbers")
    if fortran_order or shape[1:] != item_shape:
        order = " in Fortran order" if fortran_order else ""
        raise ValueError(f"its shape is {shape}{order}, not (N, {', '.join(map(str, item_shape))})")
    return shape[0], dtype
