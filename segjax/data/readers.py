"""Readers of image and label-map files (TIFF, PNG, JPEG, BMP, NPY)."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from segjax.data.planes import choose_plane, unclear_axes
from segjax.errors import InputError
from segjax.segmentation import colour_ids

# A file on disk or a member of a zip archive.
File = Path | zipfile.Path

TIFF_SUFFIXES = (".tif", ".tiff")
JPEG_SUFFIXES = (".jpg", ".jpeg")
PILLOW_SUFFIXES = (".png", *JPEG_SUFFIXES, ".bmp")
PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "F")
SUFFIXES = (*TIFF_SUFFIXES, *PILLOW_SUFFIXES, ".npy")
NO_PLANES: Mapping[str, int] = MappingProxyType({})
MAX_PIXELS = 2**28
MAX_CHANNELS = 64
# How NumPy, Pillow, tifffile, imagecodecs and zipfile report a file that ends too early.
TRUNCATED = re.compile(
    r"truncated|end of file|EOF|ends? too early|incomplete|input stream too small|failed to read (\d|all)",
    re.IGNORECASE,
)


def read_image(
    path: str | File,
    *,
    channel_axis: int | None = None,
    planes: Mapping[str, int] = NO_PLANES,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Reads one image without scaling its values.

    Channels come last in a .npy file. The metadata of a TIFF names the axis of its channels (samples per
    pixel, planar configuration, OME, ImageJ, or the axes that tifffile writes); a plain stack of pages has no
    such metadata and needs `channel_axis`.

    Alpha is dropped, and palette indices become colours. Types other than the three below are converted: bool
    to 0 and 255, integers to uint16 if they fit and to float32 otherwise.

    Args:
      path: .png, .jpg, .bmp, .tif or .npy.
      channel_axis: axis of the channels in the stored array, after axes of length 1 other than rows and
        columns are dropped. It has no effect on a 2-D array, or in .png, .jpg and .bmp.
      planes: plane to read along each axis of a stack, see `choose_plane`.
      max_pixels: larger images are refused before decoding. Pillow itself refuses more than 178,956,970.

    Returns:
      [H, W, C] uint8, uint16 or float32.

    Raises:
      InputError: if the file cannot be read as an image, is too large, or holds NaN or infinity.
    """
    path = Path(path) if isinstance(path, str) else path
    try:
        pixels = _native(_channels_last(path, channel_axis, max_pixels, planes))
    except InputError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise InputError(
            f"{path} holds NaN or infinite pixels; replace them before using the image", kind="not_finite"
        )
    return pixels


def read_labels(path: str | File, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads a label map: one integer for each pixel, or one colour for each instance.

    Args:
      path: .tif, .png, .bmp or .npy of integers. The ids of a palette image are its indices; those of an RGB
        or RGBA image come from `colour_ids`.
      max_pixels: larger maps are refused before decoding.

    Returns:
      [H, W] int32, 0 is background; ids may have gaps.

    Raises:
      InputError: if the file is not a label map.
    """
    path = Path(path) if isinstance(path, str) else path
    if path.suffix.lower() in JPEG_SUFFIXES:
        raise InputError(
            f"{path} is a JPEG, which alters ids; save the labels as TIFF or PNG", kind="lossy_mask"
        )
    try:
        labels = _channels_last(path, None, max_pixels, as_labels=True)
        if labels.shape[-1] in (3, 4) and labels.dtype == np.uint8:
            return colour_ids(labels)
    except InputError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error
    if labels.shape[-1] == 2:  # grey with alpha
        labels = np.where(labels[..., 1:] == 0, 0, labels[..., :1])
    if labels.shape[-1] != 1:
        raise InputError(
            f"{path} has {labels.shape[-1]} channels; a label map has one, or 8-bit colours",
            kind="invalid_ids",
        )
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
    return labels.astype(np.int32)


def _channels_last(
    path: File,
    channel_axis: int | None,
    max_pixels: int,
    planes: Mapping[str, int] = NO_PLANES,
    *,
    as_labels: bool = False,
) -> np.ndarray:
    """Reads the stored pixels, [H, W, C] of any type; labels keep alpha and the indices of a palette."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file")
    if suffix in TIFF_SUFFIXES:
        return _tiff(path, channel_axis, max_pixels, planes, as_labels)
    if suffix == ".npy":
        return _npy(path, channel_axis, max_pixels, planes)
    if suffix in PILLOW_SUFFIXES:
        return _pillow(path, max_pixels, as_labels)
    raise InputError(f"{path} is of an unknown type; files end in {', '.join(SUFFIXES)}")


def _tiff(
    path: File, channel_axis: int | None, max_pixels: int, planes: Mapping[str, int], as_labels: bool
) -> np.ndarray:
    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        series = tiff.series[0]
        pairs = zip(series.axes, series.shape, strict=True)
        sizes = [(axis, length) for axis, length in pairs if axis in "YX" or length > 1]
        stored = tuple(length for _, length in sizes)
        index, axes, shape, channel_axis = choose_plane(
            path, "".join(axis for axis, _ in sizes), stored, planes, channel_axis
        )
        if channel_axis is None:
            if not set(axes) <= set("YXSC"):
                raise unclear_axes(path, axes, shape)
            channel_axis = next((index for index, axis in enumerate(axes) if axis in "SC"), None)
        order = _axes_order(path, shape, channel_axis, max_pixels)
        _check_data(path, series.keyframe)
        alpha = series.keyframe.extrasamples
        pixels = tiff.asarray(series=0, maxworkers=1).reshape(stored)[index]
    pixels = pixels.transpose(order) if len(order) == 3 else pixels[..., None]
    # 1 and 2 are associated and unassociated alpha; other extra samples are channels.
    has_alpha = axes.endswith("S") and len(alpha) == 1 and int(alpha[0]) in (1, 2) and pixels.shape[-1] > 1
    return pixels[..., :-1] if has_alpha and not as_labels else pixels


def _check_data(path: File, page: tifffile.TiffPage) -> None:
    """Refuses a page that declares more pixels than it stores: tifffile would read them as zeros."""
    missing = len(page.dataoffsets) < math.prod(page.chunked)
    if page.compression == 1:  # none
        missing |= sum(page.databytecounts) < page.nbytes
    if missing:
        raise InputError(
            f"{path} declares {page.imagelength} x {page.imagewidth} pixels, but holds data for fewer: it is"
            " damaged, or was never written completely",
            kind="truncated",
        )


def _npy(path: File, channel_axis: int | None, max_pixels: int, planes: Mapping[str, int]) -> np.ndarray:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise InputError(f"{path} holds Python objects, which are never loaded; save a plain array")
        names = "".join(map(str, range(len(shape))))
        index, _, shape, channel_axis = choose_plane(path, names, shape, planes, channel_axis)
        order = _axes_order(
            path, shape, 2 if len(shape) == 3 and channel_axis is None else channel_axis, max_pixels
        )
        file.seek(0)
        pixels = np.lib.format.read_array(file, allow_pickle=False)[index]
    return pixels.transpose(order) if len(order) == 3 else pixels[..., None]


def _axes_order(
    path: File, shape: tuple[int, ...], channel_axis: int | None, max_pixels: int
) -> tuple[int, ...]:
    """Checks a shape and returns the axis order that transposes it to [H, W] or [H, W, C]."""
    if len(shape) == 2:
        channel_axis = None  # so that one flag works for a folder of colour and grey images
    rank = 2 if channel_axis is None else 3
    if len(shape) != rank or (channel_axis is not None and not -3 <= channel_axis < 3):
        raise InputError(
            f"{path} holds an array of shape {shape}; an image is [H, W] or [H, W, C], with channel_axis"
            " if channels do not come last",
            kind="unclear_axes",
        )
    order: tuple[int, ...] = (0, 1)
    if channel_axis is not None:
        channel_axis %= 3
        order = (*(axis for axis in range(3) if axis != channel_axis), channel_axis)
        if shape[channel_axis] > MAX_CHANNELS:
            raise InputError(
                f"{path} of shape {shape} would have {shape[channel_axis]} channels; give channel_axis if"
                " channels do not come last",
                kind="unclear_axes",
            )
    _check_size(path, shape[order[0]], shape[order[1]], max_pixels)
    return order


def _pillow(path: File, max_pixels: int, as_labels: bool) -> np.ndarray:
    with path.open("rb") as file, Image.open(file, formats=("PNG", "JPEG", "BMP")) as picture:
        width, height = picture.size
        _check_size(path, height, width, max_pixels)
        # Pillow silently truncates 16-bit colours to 8 bits.
        if picture.format == "PNG" and picture.mode in ("RGB", "RGBA", "LA"):
            file.seek(0)
            pixels = imagecodecs.png_decode(file.read())
        elif picture.mode in PLAIN_MODES or (as_labels and picture.mode == "P"):
            pixels = np.asarray(picture)
        else:  # palettes, CMYK, YCbCr and the like
            pixels = np.asarray(picture.convert("RGB"))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    has_alpha = pixels.shape[-1] in (2, 4) and not as_labels
    return pixels[..., :-1] if has_alpha else pixels


def _check_size(path: File, height: int, width: int, max_pixels: int) -> None:
    if height < 1 or width < 1:
        raise InputError(f"{path} is empty: {height} x {width} pixels", kind="no_pixels")
    if height * width > max_pixels:
        raise InputError(
            f"{path} declares {height} x {width} pixels, more than {max_pixels}; cut it into tiles first",
            kind="too_large",
        )


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


def unreadable(where: File | str, error: Exception, remedy: str = "") -> InputError:
    """Wraps the exception of a library that cannot read a file; sets `kind` from it.

    Args:
      where: the file, or a description of the entry in it.
      error: the exception of the library.
      remedy: instruction to the user; by default to check the file.
    """
    reason = str(error).strip() or type(error).__name__
    remedy = remedy or "check that the file is complete and of the type that its name says"
    return InputError(f"{where} cannot be read ({reason}); {remedy}", kind=kind_of_damage(error))


def kind_of_damage(error: Exception) -> str | None:
    """Classifies the exception of a library: "truncated", "too_large", or None for any other damage."""
    if isinstance(error, Image.DecompressionBombError):
        return "too_large"
    return "truncated" if TRUNCATED.search(str(error)) else None
