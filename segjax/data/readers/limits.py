"""Kinds of files, bounds on their size, and errors of files that cannot be read."""

from __future__ import annotations

import errno
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from PIL import Image

from segjax.errors import InputError

# A file on disk or a member of a zip archive.
File = Path | zipfile.Path

TIFF_SUFFIXES = (".tif", ".tiff")
JPEG_SUFFIXES = (".jpg", ".jpeg")
PILLOW_SUFFIXES = (".png", *JPEG_SUFFIXES, ".bmp", ".webp")
SUFFIXES = (*TIFF_SUFFIXES, *PILLOW_SUFFIXES, ".npy")
# The ids of connected components are int32.
MAX_PIXELS = 2**31 - 1
# A quarter of the memory: an image of float32 and its labels need further copies.
MAX_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 if hasattr(os, "sysconf") else 2**32
# How NumPy, Pillow, tifffile, imagecodecs and zipfile report a file that ends too early.
TRUNCATED = re.compile(
    r"truncated|end of file|EOF|ends? too early|incomplete|input stream too small|failed to read (\d|all)",
    re.IGNORECASE,
)
# What to do if the system refuses to read a file, by the kind of the error.
REFUSALS = {
    "no_permission": "change its permissions so that you may read it",
    "missing_file": "copy the file again from its source, or repair the link",
    "unreadable_disk": "check the disk or the network, and copy the file again",
}
# Numbers of errors of disks and networks. A damaged file causes others, such as EINVAL.
BROKEN_DISK = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN)
NO_PLANES: Mapping[str, int] = MappingProxyType({})


class Request(NamedTuple):
    """How a file is read, see `read_image`.

    Attributes:
      channel_axis: axis of the channels, None if the file names it.
      planes: plane to read along each axis of a stack.
      max_pixels: larger images are refused.
      as_labels: whether to keep alpha, and the indices of a palette.
    """

    channel_axis: int | None = None
    planes: Mapping[str, int] = NO_PLANES
    max_pixels: int = MAX_PIXELS
    as_labels: bool = False


def check_size(path: File, height: int, width: int, max_pixels: int) -> None:
    """Refuses an image without pixels, and one of more than `max_pixels`.

    Raises:
      InputError: of kind "no_pixels" or "too_large".
    """
    if height < 1 or width < 1:
        raise InputError(f"{path} is empty: {height} x {width} pixels", kind="no_pixels")
    if height * width > max_pixels:
        raise InputError(
            f"{path} declares {height} x {width} pixels, more than {max_pixels}; cut it into tiles first",
            kind="too_large",
        )


def check_memory(path: File, num_bytes: int) -> None:
    """Refuses an image that does not fit into the memory of this machine.

    Args:
      path: the file.
      num_bytes: size of the decoded pixels.

    Raises:
      InputError: of kind "too_large".
    """
    if num_bytes > MAX_BYTES:
        raise InputError(
            f"{path} declares pixels of {num_bytes / 2**30:.1f} GiB, more than a quarter of the memory of"
            f" this machine, {MAX_BYTES / 2**30:.1f} GiB; cut it into tiles first",
            kind="too_large",
        )


def fewer_pixels(path: File, height: int, width: int) -> InputError:
    """Returns the error for a file that declares more pixels than it stores."""
    return InputError(
        f"{path} declares {height} x {width} pixels, but holds data for fewer: it is damaged, or was never"
        " written completely",
        kind="truncated",
    )


def unreadable(
    where: File | str, error: Exception, remedy: str = "", *, kind: str | None = None
) -> InputError:
    """Wraps the exception of a library, or of the system, that cannot read a file.

    Args:
      where: the file, or a description of the entry in it.
      error: the exception.
      remedy: instruction to the user for a damaged file; by default to check the file.
      kind: the kind of the error where `kind_of_damage` knows none.
    """
    # The text of an error of the system repeats the path and has a number.
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    damage = kind_of_damage(error)
    remedy = REFUSALS.get(damage or "", remedy)
    remedy = remedy or "check that the file is complete and of the type that its name says"
    return InputError(f"{where} cannot be read ({reason}); {remedy}", kind=damage or kind)


def kind_of_damage(error: Exception) -> str | None:
    """Classifies why a file cannot be read.

    Returns:
      One of `REFUSALS` if the system refuses it, "truncated", "too_large", or None for any other damage.
    """
    if isinstance(error, PermissionError):
        return "no_permission"
    if isinstance(error, FileNotFoundError):
        return "missing_file"
    if isinstance(error, OSError) and error.errno in BROKEN_DISK:
        return "unreadable_disk"
    if isinstance(error, (Image.DecompressionBombError, MemoryError)):
        return "too_large"
    return "truncated" if TRUNCATED.search(str(error)) else None


def no_label_map(path: File, channels: int) -> InputError:
    """Returns the error of labels with several channels."""
    return InputError(
        f"{path} has {channels} channels; a label map has one, or 8-bit colours", kind="invalid_ids"
    )
