"""TIFF files of any program: several images, stacks, palettes, packed pixels."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from absl import logging
from tifffile import PHOTOMETRIC, TiffFile, TiffFrame, TiffPage, TiffPageSeries

from segjax.data.channels import without_alpha
from segjax.data.readers.axes import find_layout
from segjax.data.readers.limits import File, Request, check_memory, fewer_pixels, no_label_map
from segjax.data.readers.orientation import ORIENTATION, upright
from segjax.errors import InputError

# None, LZW, Deflate, Packbits: exactly the stored values, also of colours that are not RGB.
EXACT = (1, 5, 8, 32773, 32946)
JPEG = (6, 7)
GREY_OR_RGB = (
    PHOTOMETRIC.MINISWHITE,
    PHOTOMETRIC.MINISBLACK,
    PHOTOMETRIC.RGB,
    PHOTOMETRIC.PALETTE,
    PHOTOMETRIC.MASK,
    PHOTOMETRIC.SEPARATED,
    PHOTOMETRIC.CFA,
    PHOTOMETRIC.LINEAR_RAW,
)


@contextmanager
def open_tiff(path: File) -> Iterator[TiffFile]:
    """Opens a TIFF file without the other files of its set, if it is a part of one."""
    # Series of Micro-Manager cannot be limited to one file.
    with (
        path.open("rb") as file,
        TiffFile(file, _multifile=False, is_mmstack=False, is_ndtiff=False) as tiff,
    ):
        yield tiff


def largest_series(tiff: TiffFile) -> TiffPageSeries:
    """Returns the image with the most rows and columns, the first of several; pyramids count once."""
    return max(tiff.series, key=lambda series: math.prod(_sides(series)))


def long_axes(series: TiffPageSeries) -> list[tuple[str, int]]:
    """Returns letter and length of the rows, the columns and each axis of more than one position."""
    pairs = zip(series.axes, series.shape, strict=True)
    return [(axis, length) for axis, length in pairs if axis in "YX" or length > 1]


def other_images(tiff: TiffFile) -> str | None:
    """Returns what belongs to a file beside the image that is read; None if nothing does."""
    series = largest_series(tiff)
    xml = tiff.ome_metadata or ""
    if series.kind != "ome" and ("UUID" in xml or "BinaryOnly" in xml):
        return "one part of an OME-TIFF of several files, and is read without the others"
    if len(tiff.series) == 1:
        return None
    sizes = [" x ".join(map(str, _sides(other))) for other in tiff.series]
    position = tiff.series.index(series)
    size = sizes.pop(position)
    return (
        f"{len(tiff.series)} images, of which the first of the largest, image {position} of {size} pixels, is"
        f" read; the others have {', '.join(sizes)} pixels"
    )


def read_tiff(path: File, request: Request) -> np.ndarray:
    """Reads the largest image of a TIFF file, upright; of a stack only the chosen plane.

    Returns:
      [H, W, C] of the stored type. Alpha is dropped and palette indices become colours, except in labels.

    Raises:
      InputError: if pixels are missing, or the axes or colours are not clear.
    """
    with open_tiff(path) as tiff:
        series = largest_series(tiff)
        page = series.keyframe
        check_pages(path, tiff)
        if others := other_images(tiff):
            logging.warning("%s holds %s", path, others)
        sizes = long_axes(series)
        stored = tuple(length for _, length in sizes)
        layout = find_layout(path, "".join(axis for axis, _ in sizes), stored, request)
        pixels = _read_pages(path, tiff, series, stored, layout.selection)
        pixels = pixels.transpose(layout.order) if len(layout.order) == 3 else pixels[..., None]
        # 1 and 2 are associated and unassociated alpha; other extra samples are channels.
        alpha = layout.samples and len(page.extrasamples) == 1 and int(page.extrasamples[0]) in (1, 2)
        if alpha:
            pixels = without_alpha(pixels, as_labels=request.as_labels)
        if request.as_labels and not layout.samples and pixels.shape[-1] > 1:
            raise no_label_map(path, pixels.shape[-1])
        pixels = as_shown(path, pixels, tiff, page, request.as_labels)
        return upright(pixels, page.tags.valueof(ORIENTATION))


def is_jpeg_tiff(path: File) -> bool:
    """Returns whether the pixels of a TIFF file are compressed as JPEG."""
    with open_tiff(path) as tiff:
        return largest_series(tiff).keyframe.compression in JPEG


def has_palette(path: File) -> bool:
    """Returns whether the pixels of a TIFF file are indices into a palette."""
    with open_tiff(path) as tiff:
        return largest_series(tiff).keyframe.photometric == PHOTOMETRIC.PALETTE


def _sides(series: TiffPageSeries) -> tuple[int, int]:
    lengths = dict(zip(series.axes, series.shape, strict=True))
    return lengths.get("Y", 1), lengths.get("X", 1)


def check_pages(path: File, tiff: TiffFile) -> None:
    """Refuses a file whose next page lies beyond its end: tifffile leaves out such pages."""
    file, number = tiff.filehandle, len(tiff.pages)
    position = tiff.pages.next_page_offset
    if position is None:
        return
    file.seek(position)
    (offset,) = struct.unpack(tiff.tiff.offsetformat, file.read(tiff.tiff.offsetsize))
    if offset >= file.size:
        raise InputError(
            f"{path} ends before its page {number}; copy the file again from its source", kind="truncated"
        )


def _read_pages(
    path: File,
    tiff: TiffFile,
    series: TiffPageSeries,
    stored: tuple[int, ...],
    selection: tuple[int | slice, ...],
) -> np.ndarray:
    """Reads the pages of a selection of the stored array, and checks that they are complete."""
    page, offsets = series.keyframe, plane_offsets(path, tiff, series)
    stacked, num_pages = stacked_axes(stored, len(offsets or series.pages))
    numbers = np.arange(num_pages).reshape(stored[:stacked])[selection[:stacked]]
    has_pages = stacked and not offsets
    pages = [series.pages[number] for number in numbers.flat] if has_pages else series.pages
    check_data(path, page, pages)
    _check_segments(path, tiff, page, pages)
    item_size = 1 if page.dtype is None else page.dtype.itemsize
    check_memory(path, numbers.size * math.prod(stored[stacked:]) * item_size)
    if offsets:
        planes = [_read_plane(tiff, page, offsets[number]) for number in numbers.flat]
        pixels = np.concatenate(planes)
    else:
        key = None if numbers.size == num_pages else numbers.ravel().tolist()
        pixels = tiff.asarray(key=key, series=series, maxworkers=1)
    within = (slice(None),) * numbers.ndim + selection[stacked:]
    return pixels.reshape(numbers.shape + stored[stacked:])[within]


def plane_offsets(path: File, tiff: TiffFile, series: TiffPageSeries) -> range | None:
    """Returns where the planes of a stack begin in its file if only the first has a page; None for others.

    ImageJ writes so above 4 GB. The planes are stored one after the other, without compression.

    Raises:
      InputError: if the file ends before its last plane.
    """
    page, first = series.keyframe, series.dataoffset
    size = math.prod(series.shape) * page.nbytes // max(math.prod(page.shape), 1)
    if first is None or len(series.pages) != 1 or size <= page.nbytes:
        return None
    if first + size > tiff.filehandle.size:
        raise fewer_pixels(path, page.imagelength, page.imagewidth)
    return range(first, first + size, page.nbytes)


def _read_plane(tiff: TiffFile, page: TiffPage, offset: int) -> np.ndarray:
    tiff.filehandle.seek(offset)
    stored = np.frombuffer(
        tiff.filehandle.read(page.nbytes), np.dtype(page.dtype).newbyteorder(tiff.byteorder)
    )
    return stored.astype(page.dtype)


def stacked_axes(stored: tuple[int, ...], num_pages: int) -> tuple[int, int]:
    """Returns the number of leading axes of the stored array that are stacked pages, and the number of pages.

    >>> stacked_axes((3, 64, 48), 3), stacked_axes((64, 48), 1)
    ((1, 3), (0, 1))
    """
    for axis in range(len(stored) + 1):
        if math.prod(stored[:axis]) == num_pages:
            return axis, num_pages
    return 0, 1


def check_data(path: File, page: TiffPage, pages: Sequence[TiffPage | TiffFrame | None]) -> None:
    """Refuses pages that declare more pixels than they store: tifffile would read them as zeros."""
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    row = math.ceil(page.imagewidth * page.samplesperpixel // planes * page.bitspersample / 8)
    num_bytes = page.imagelength * row * planes * page.imagedepth
    for stored in pages:
        if (
            stored is None
            or len(stored.dataoffsets) < math.prod(page.chunked)
            or (page.compression == 1 and sum(stored.databytecounts) < num_bytes)
        ):
            raise fewer_pixels(path, page.imagelength, page.imagewidth)


def _check_segments(
    path: File, tiff: TiffFile, page: TiffPage, pages: Sequence[TiffPage | TiffFrame | None]
) -> None:
    """Refuses strips and tiles that were never written, and cut ones of JPEG: both would be false pixels."""
    for stored in pages:
        if stored is None:
            continue
        offsets, sizes = stored.dataoffsets, stored.databytecounts
        if missing := sum(not size for size in sizes):
            raise InputError(
                f"{path} holds no data for {missing} of its {len(sizes)} strips or tiles, which would be read"
                " as zeros: it was never written completely, or is sparse (write it with SPARSE_OK=FALSE)",
                kind="truncated",
            )
        ends = map(operator.add, offsets, sizes)
        if page.compression in JPEG and max(ends) > tiff.filehandle.size:
            raise InputError(
                f"{path} ends inside a strip or tile of JPEG; copy the file again from its source",
                kind="truncated",
            )


def as_shown(path: File, pixels: np.ndarray, tiff: TiffFile, page: TiffPage, as_labels: bool) -> np.ndarray:
    """Converts values that are no brightness: palettes, ink, and 0 for white.

    Lookup tables of ImageJ from dark to bright, and its inverted ones, only change what is shown. The ids of
    labels are the stored values, except that foreground is white in masks of one bit.
    """
    photometric = page.tags.valueof("PhotometricInterpretation", PHOTOMETRIC.MINISBLACK)
    is_value = tiff.is_imagej or page.software.startswith("tifffile")
    if photometric == PHOTOMETRIC.MINISWHITE and not is_value and (not as_labels or page.bitspersample == 1):
        if pixels.dtype == bool:
            return ~pixels
        return 2**page.bitspersample - 1 - pixels if pixels.dtype.kind == "u" else pixels
    if as_labels:
        return pixels
    if photometric == PHOTOMETRIC.PALETTE and pixels.shape[-1] == 1 and page.colormap is not None:
        colours = np.asarray(page.colormap, np.int64).T
        if tiff.is_imagej and (np.diff(colours.sum(axis=1)) >= 0).all():
            return pixels
        # Some programs write 8 bits where TIFF has 16.
        colours = colours if colours.max() < 256 else colours >> 8
        return colours.astype(np.uint8)[pixels[..., 0].astype(np.intp)]
    if photometric == PHOTOMETRIC.SEPARATED and pixels.shape[-1] == 4 and pixels.dtype == np.uint8:
        light = 255 - pixels.astype(np.uint16)
        return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)
    if photometric not in GREY_OR_RGB and page.compression in EXACT:
        name = getattr(photometric, "name", photometric)
        raise InputError(f"{path} stores its colours as {name}; save it with colours of RGB")
    return pixels
