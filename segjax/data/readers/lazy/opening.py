"""Opens images that are read in parts, by the type of their file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segjax.data.readers.lazy.pyramid import Pyramid
from segjax.data.readers.lazy.slide import open_slide_pyramid
from segjax.data.readers.lazy.tiff import open_tiff_pyramid
from segjax.data.readers.lazy.zarr import open_zarr_pyramid
from segjax.data.readers.limits import NO_PLANES, TIFF_SUFFIXES, Request, unreadable
from segjax.errors import InputError

ZARR, SLIDES = ".zarr", (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".svslide", ".dcm")
# Files with the metadata of a Zarr, of version 3 and 2.
ZARR_METADATA = ("zarr.json", ".zattrs")
# Types that are always read in parts.
LAZY_SUFFIXES = (ZARR, *SLIDES)
# There is no limit but that of the 64-bit indices of pixels.
MAX_PIXELS = 2**62


def is_lazy_only(path: Path) -> bool:
    """Returns whether a file is of a type that is always read in parts."""
    return path.suffix.lower() in LAZY_SUFFIXES


def is_lazy_image(path: Path) -> bool:
    """Returns whether a path is a slide, by its name, or the folder of an OME-Zarr, by its metadata."""
    if path.suffix.lower() != ZARR:
        return is_lazy_only(path)
    files = (path / name for name in ZARR_METADATA)
    return any(file.is_file() and b"multiscales" in file.read_bytes() for file in files)


def open_lazily(
    path: Path, *, channel_axis: int | None = None, planes: Mapping[str, int] = NO_PLANES
) -> Pyramid:
    """Opens an image without reading its pixels.

    Args:
      path: a TIFF, the folder of an OME-Zarr, or a slide.
      channel_axis: axis of the channels, see `read_image`.
      planes: plane to read along each axis of a stack, see `choose_plane`.

    Raises:
      InputError: if the image cannot be read in parts.
    """
    request, suffix = Request(channel_axis, planes, MAX_PIXELS), path.suffix.lower()
    try:
        if suffix == ZARR:
            return open_zarr_pyramid(path, request)
        if suffix in SLIDES:
            return open_slide_pyramid(path)
        if suffix in TIFF_SUFFIXES:
            return open_tiff_pyramid(path, request)
    except InputError:
        raise
    except Exception as error:  # tifffile raises many types
        raise unreadable(path, error) from error
    raise InputError(f"{path} cannot be read in parts: save it as a tiled TIFF or as OME-Zarr")
