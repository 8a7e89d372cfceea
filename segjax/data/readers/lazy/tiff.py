"""TIFF files whose tiles or strips are read one by one."""

from __future__ import annotations

import itertools
import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile, TiffPageSeries

from segjax.data.pixel_size import stored_pixel_size
from segjax.data.readers.axes import find_layout
from segjax.data.readers.lazy.pyramid import Pyramid, check_window, consistent_levels, damaged
from segjax.data.readers.limits import Request
from segjax.data.readers.orientation import ORIENTATION
from segjax.data.readers.tiff import (
    as_shown,
    check_data,
    check_pages,
    largest_series,
    long_axes,
    open_tiff,
    plane_offsets,
    stacked_axes,
)
from segjax.errors import InputError

# Decoded size of a tile or strip above which a file is not read in parts.
MAX_SEGMENT = 2**28


def open_tiff_pyramid(path: Path, request: Request) -> Pyramid:
    """Opens the largest image of a TIFF file with its levels; `request` and errors are as in `read_tiff`."""
    with ExitStack() as stack:
        tiff = stack.enter_context(open_tiff(path))
        series = largest_series(tiff)
        check_pages(path, tiff)
        if series.keyframe.tags.valueof(ORIENTATION) not in (None, 1):
            raise InputError(f"{path} is stored rotated, and too large to be rotated here: save it upright")
        file = stack.enter_context(path.open("rb"))
        levels = [TiffLevel(path, tiff, level, request, file.fileno()) for level in series.levels]
        pixel_size = stored_pixel_size(path)
        return Pyramid(path, consistent_levels(path, levels), pixel_size, stack.pop_all().close)


class TiffLevel:
    """A level of a TIFF file, see `Level`.

    Args:
      path: the file.
      tiff: the opened file.
      series: the level.
      request: the plane, and the axis of the channels.
      descriptor: descriptor of the file, from which several threads can read.
    """

    def __init__(
        self, path: Path, tiff: TiffFile, series: TiffPageSeries, request: Request, descriptor: int
    ) -> None:
        self._path, self._tiff, self._page, self._descriptor = path, tiff, series.keyframe, descriptor
        offsets = plane_offsets(path, tiff, series)
        self._is_mapped = self._page.is_memmappable or offsets is not None
        pairs = long_axes(series)
        axes, stored = "".join(axis for axis, _ in pairs), tuple(size for _, size in pairs)
        layout = find_layout(path, axes, stored, request)
        self._order, selection = layout.order, layout.selection or (slice(None),) * len(stored)
        stacked, num_pages = stacked_axes(stored, len(offsets or series.pages))
        numbers = np.arange(num_pages).reshape(stored[:stacked])[selection[:stacked]]
        self._outer, self._inner, self._within = numbers.shape, axes[stacked:], selection[stacked:]
        has_pages = stacked and not offsets
        self._pages = (
            [series.pages[int(number)] for number in numbers.flat] if has_pages else series.pages[:1]
        )
        check_data(path, self._page, self._pages)
        # Where the first pixel of each page or plane is, if they are not compressed.
        self._starts = [page.dataoffsets[0] for page in self._pages if page is not None]
        if offsets:
            self._starts = [offsets[int(number)] for number in numbers.flat]
        # Pages may have only rows, columns and samples: other axes inside a page cannot be read in parts.
        if set(self._inner) - set("YXS") or self._page.imagedepth > 1:
            raise InputError(
                f"{path} has pages of several planes, which cannot be read in parts: save it with tiles"
            )
        extra = self._page.extrasamples
        self._has_alpha = layout.samples and len(extra) == 1 and int(extra[0]) in (1, 2)
        lengths = dict(pairs)
        samples = self._page.samplesperpixel
        self._samples = (samples, 1) if self._page.planarconfig == 2 else (1, samples)
        self._segment = (
            (self._page.tilelength, self._page.tilewidth)
            if self._page.is_tiled
            else (self._page.rowsperstrip, self._page.imagewidth)
        )
        self._check_segment()
        self.shape = (lengths["Y"], lengths["X"], 0)
        # The shape and type come from zeros, because the first tile may be damaged.
        lengths |= {"Y": 1, "X": 1}
        pixel = np.zeros([lengths[axis] for axis in self._inner], np.dtype(self._page.dtype))
        pixel = self._as_image([pixel] * len(self._starts))
        self.shape, self.dtype = (*self.shape[:2], pixel.shape[2]), pixel.dtype

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window, see `Level`."""
        check_window(self, top, left, height, width)
        box = (top, left, height, width)
        if self._is_mapped:
            windows = [self._read_mapped(start, *box) for start in self._starts]
        else:
            windows = [self._read_segments(page, *box) for page in self._pages]
        return self._as_image([self._without_ones(window) for window in windows])

    def _as_image(self, pages: list[np.ndarray]) -> np.ndarray:
        """Returns a window [h, w, C] of its part in each page."""
        pixels = np.stack(pages).reshape(*self._outer, *pages[0].shape)
        pixels = pixels[(slice(None),) * len(self._outer) + self._within]
        pixels = pixels.transpose(self._order) if len(self._order) == 3 else pixels[..., None]
        if self._has_alpha:
            pixels = pixels[..., :-1]
        return as_shown(self._path, pixels, self._tiff, self._page, False)

    def _without_ones(self, window: np.ndarray) -> np.ndarray:
        """Returns a window [planes, height, width, samples] with the axes of the page."""
        if self._inner == "YXS":
            return window[0]
        return window[..., 0] if self._inner == "SYX" else window[0, ..., 0]

    def _read_mapped(self, start: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window [planes, height, width, samples] of a page whose pixels begin at `start`."""
        planes, samples = self._samples
        stored = np.dtype(self._page.dtype).newbyteorder(self._tiff.byteorder)
        rows = (height, self._page.imagewidth, samples)
        window = np.empty((planes, height, width, samples), self._page.dtype)
        for plane in range(planes):
            offset = start + (plane * self._page.imagelength + top) * math.prod(rows[1:]) * stored.itemsize
            try:
                if offset + math.prod(rows) * stored.itemsize > os.fstat(self._descriptor).st_size:
                    raise ValueError("the file ends too early")
                # Opened for each window, so that only the pixels of the window stay in memory.
                mapped = np.memmap(self._path, stored, "r", offset, rows)
            except Exception as error:
                raise damaged(self._path, top, left, error) from error
            window[plane] = mapped[:, left : left + width]
        return window

    def _read_segments(self, page: Any, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window [planes, height, width, samples] of a page in tiles or strips."""
        (planes, samples), (rows, columns) = self._samples, self._segment
        window = np.zeros((planes, height, width, samples), self._page.dtype)
        down, across = -(-self._page.imagelength // rows), -(-self._page.imagewidth // columns)
        numbers = itertools.product(
            range(planes),
            range(top // rows, -(-(top + height) // rows)),
            range(left // columns, -(-(left + width) // columns)),
        )
        for plane, row, column in numbers:
            y, x = row * rows, column * columns
            segment = self._decode(page, (plane * down + row) * across + column, y, x)
            if segment is not None:
                lines = slice(max(y - top, 0), y - top + segment.shape[0])
                across_lines = slice(max(x - left, 0), x - left + segment.shape[1])
                target = window[plane, lines, across_lines]
                inside = segment[max(top - y, 0) :, max(left - x, 0) :]
                target[:] = inside[: target.shape[0], : target.shape[1]]
        return window

    def _decode(self, page: Any, index: int, top: int, left: int) -> np.ndarray | None:
        """Returns a tile or strip [h, w, S], cropped to the page; None if it is not stored: all zeros."""
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        if not size:
            return None
        keyframe = self._page
        try:
            data = os.pread(self._descriptor, size, offset)
            if len(data) < size:
                raise ValueError("the file ends too early")
            tables = {"jpegtables": keyframe.jpegtables, "jpegheader": keyframe.jpegheader}
            segment, _, shape = keyframe.decode(data, index, **tables)
        except Exception as error:  # decoders raise many types
            raise damaged(self._path, top, left, error) from error
        return None if segment is None else segment[0, : shape[1], : shape[2]]

    def _check_segment(self) -> None:
        size = math.prod(self._page.chunks) * np.dtype(self._page.dtype).itemsize
        if size > MAX_SEGMENT and not self._is_mapped:
            raise InputError(
                f"{self._path} stores pieces of {size / 2**30:.1f} GiB, which cannot be read in parts: save"
                " it with tiles"
            )
