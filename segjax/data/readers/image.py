"""Reads images and label maps of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segjax.data.readers.array import read_array
from segjax.data.readers.limits import (
    JPEG_SUFFIXES,
    MAX_PIXELS,
    NO_PLANES,
    PILLOW_SUFFIXES,
    SUFFIXES,
    TIFF_SUFFIXES,
    File,
    Request,
    no_label_map,
    unreadable,
)
from segjax.data.readers.raster import further_frames, is_lossy_webp, open_picture, read_picture
from segjax.data.readers.tiff import is_jpeg_tiff, open_tiff, other_images, read_tiff
from segjax.errors import InputError
from segjax.segmentation import colour_ids
from segjax.segmentation.masks import check_not_wrapped


def read_image(
    path: str | File,
    *,
    channel_axis: int | None = None,
    planes: Mapping[str, int] = NO_PLANES,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Reads one image without scaling its values, upright as annotation tools show it.

    The orientation that EXIF data or a TIFF tag states is applied. Of several images in one file the largest
    is read, and a warning names it; of the files of an OME-TIFF set each has its own planes only.

    The metadata of a TIFF names the axis of its channels (samples per pixel, planar configuration, OME,
    ImageJ, or the axes that tifffile writes). Where no axis has a name, in .npy and in plain stacks of pages,
    an array [H, W, C] of up to four channels, shorter than both other axes, is read; any other array of three
    axes needs `channel_axis`.

    Alpha is dropped, and palette indices become colours. Types other than the three below are converted: bool
    to 0 and 255, integers to uint16 if they fit and to float32 otherwise.

    Args:
      path: .png, .jpg, .bmp, .webp, .tif or .npy.
      channel_axis: axis of the channels in the stored array, after axes of length 1 other than rows and
        columns are dropped. It has no effect on a 2-D array, or in .png, .jpg, .bmp and .webp.
      planes: plane to read along each axis of a stack, see `choose_plane`.
      max_pixels: larger images are refused before decoding, and those that need more than a quarter of the
        memory of this machine.

    Returns:
      [H, W, C] uint8, uint16 or float32.

    Raises:
      InputError: if the file cannot be read as an image, is too large, or holds NaN or infinity.
    """
    path = Path(path) if isinstance(path, str) else path
    request = Request(channel_axis, planes, max_pixels)
    try:
        pixels = as_native(_read(path, request), str(path))
    except InputError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error
    return pixels


def read_labels(
    path: str | File, *, planes: Mapping[str, int] = NO_PLANES, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Reads a label map: one integer for each pixel, or one colour for each instance.

    Orientation and several images in one file are handled as in `read_image`.

    Args:
      path: .tif, .png, .bmp, lossless .webp or .npy of integers. The ids of a palette image are its indices;
        those of an RGB or RGBA image come from `colour_ids`.
      planes: plane to read along each axis of a stack, see `choose_plane`.
      max_pixels: larger maps are refused before decoding.

    Returns:
      [H, W] int32, 0 is background; ids may have gaps.

    Raises:
      InputError: if the file is not a label map.
    """
    path = Path(path) if isinstance(path, str) else path
    try:
        if is_lossy(path):
            raise InputError(
                f"{path} is a JPEG or lossy WebP, which alters ids; save the labels as TIFF or PNG",
                kind="lossy_mask",
            )
        labels = _read(path, Request(planes=planes, max_pixels=max_pixels, as_labels=True))
        if labels.shape[-1] in (3, 4) and labels.dtype == np.uint8 and path.suffix.lower() != ".npy":
            return colour_ids(labels)
    except InputError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error
    if labels.shape[-1] != 1:
        raise no_label_map(path, labels.shape[-1])
    labels = labels[..., 0]
    is_integer = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool
    if not is_integer and not (np.isfinite(labels).all() and (labels == np.round(labels)).all()):
        raise InputError(
            f"{path} holds fractions; a label map holds integers: 0, 1, 2, ...", kind="invalid_ids"
        )
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.int32).max):
        raise InputError(
            f"{path} holds ids outside 0 to {np.iinfo(np.int32).max}; renumber them", kind="invalid_ids"
        )
    if is_integer:
        check_not_wrapped(labels, str(path))
    return labels.astype(np.int32)


def is_lossy(path: File) -> bool:
    """Returns whether the compression of a file alters ids: JPEG, also in TIFF, and lossy WebP.

    A file that cannot be read is not; `read_image` and `read_labels` report it.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in TIFF_SUFFIXES:
            return is_jpeg_tiff(path)
        return suffix in JPEG_SUFFIXES or (suffix == ".webp" and is_lossy_webp(path))
    except Exception:  # tifffile raises many types
        return False


def describe_other_images(path: File) -> str | None:
    """Returns what belongs to a file beside the image that `read_image` returns, such as a thumbnail.

    Returns:
      A clause that follows "it holds", None if there is nothing else.
    """
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        with open_tiff(path) as tiff:
            return other_images(tiff)
    if suffix in PILLOW_SUFFIXES:
        with open_picture(path) as picture:
            return further_frames(picture)
    return None


def _read(path: File, request: Request) -> np.ndarray:
    """Reads the stored pixels upright, [H, W, C] of any type."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file")
    if suffix == ".npy":
        return read_array(path, request)
    if suffix not in SUFFIXES:
        raise InputError(f"{path} is of an unknown type; files end in {', '.join(SUFFIXES)}")
    return read_tiff(path, request) if suffix in TIFF_SUFFIXES else read_picture(path, request)


def as_native(pixels: np.ndarray, name: str) -> np.ndarray:
    """Converts pixels of any real type to uint8, uint16 or float32.

    Args:
      pixels: [H, W, C].
      name: the file, for the error.

    Raises:
      InputError: if a pixel is NaN or infinite.
    """
    native = _native(pixels)
    if native.dtype == np.float32 and not np.isfinite(native).all():
        raise InputError(
            f"{name} holds NaN or infinite pixels; replace them before using the image", kind="not_finite"
        )
    return native


def _native(pixels: np.ndarray) -> np.ndarray:
    """[H, W, C] of any real type -> uint8, uint16 or float32."""
    if pixels.dtype == bool:
        return np.where(pixels, np.uint8(255), np.uint8(0))
    if pixels.dtype.kind not in "uif":
        raise ValueError(f"pixels of type {pixels.dtype} are not those of an image")
    if pixels.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(pixels)
    # This also converts the byte order of big-endian files, which JAX refuses.
    if pixels.dtype.kind in "ui" and pixels.min() >= 0 and pixels.max() < 2**16:
        return pixels.astype(np.uint16)
    return pixels.astype(np.float32)
