"""NumPy files, which never name their axes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import IO

import numpy as np

from segjax.data.readers.axes import MAX_UNNAMED_CHANNELS, find_layout
from segjax.data.readers.limits import File, Request, check_memory, fewer_pixels
from segjax.errors import InputError


def read_array(path: File, request: Request) -> np.ndarray:
    """Reads a .npy file without pickle; of a stack on disk only the chosen plane.

    Returns:
      [H, W, C] of the stored type.

    Raises:
      InputError: if the file is truncated, holds objects, or its axes are not clear.
    """
    with path.open("rb") as file:
        shape, fortran_order, dtype = read_header(file)
        if dtype.hasobject:
            raise InputError(f"{path} holds Python objects, which are never loaded; save a plain array")
        offset, used = file.tell(), without_ones(shape, request.channel_axis)
        names = "".join(map(str, range(len(used))))
        selection, order, _ = find_layout(path, names, used, request)
        num_bytes = math.prod(shape) * dtype.itemsize
        if file.seek(0, os.SEEK_END) - offset < num_bytes:
            raise fewer_pixels(path, *(used[axis] for axis in order[:2]))
        if isinstance(path, Path):
            stored: np.ndarray = np.memmap(path, dtype, "r", offset, shape, "F" if fortran_order else "C")
        else:
            check_memory(path, num_bytes)
            file.seek(0)
            stored = np.lib.format.read_array(file, allow_pickle=False)
        plane = stored.reshape(used)[selection]
        check_memory(path, plane.nbytes)
        pixels = np.array(plane).transpose(order)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads the header of a .npy file, up to the first number.

    Returns:
      Shape, whether the order is Fortran's, and type.

    Raises:
      ValueError: if the file is no such file.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def without_ones(shape: tuple[int, ...], channel_axis: int | None) -> tuple[int, ...]:
    """Drops axes of length 1 where rows, columns and channels remain: [1, H, W] is a grey image."""
    if len(shape) == 3 and (channel_axis is not None or shape[0] > 1 or shape[-1] <= MAX_UNNAMED_CHANNELS):
        return shape
    long = tuple(length for length in shape if length != 1)
    return long if len(shape) > 2 and len(long) >= 2 else shape
