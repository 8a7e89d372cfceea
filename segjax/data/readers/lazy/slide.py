"""Slides of scanners, by OpenSlide."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.data.readers.lazy.pyramid import Pyramid, check_window, consistent_levels, damaged
from segjax.errors import InputError

# Names of the sides of `Bounds` in OpenSlide.
SIDES = ("x", "y", "width", "height")
# Bytes of decoded tiles that are kept.
CACHE = 2**26


class Bounds(NamedTuple):
    """The rectangle of a slide that was scanned, in pixels of its finest level."""

    left: int
    top: int
    width: int
    height: int


def open_slide_pyramid(path: Path) -> Pyramid:
    """Opens a slide, or the part of it that was scanned if it states one: QuPath shows and counts the same.

    Raises:
      InputError: if the library openslide is not installed, or cannot read the file.
    """
    try:
        import openslide
    except ImportError:
        raise InputError(f'{path} needs the package openslide: pip install "segjax[slides]"') from None
    cache = openslide.OpenSlideCache(CACHE)

    def open_slide() -> Any:
        slide = openslide.OpenSlide(path)
        slide.set_cache(cache)
        return slide

    try:
        slide = open_slide()
    except Exception as error:
        raise InputError(
            f"{path} is no slide that OpenSlide can read ({error}): save it as OME-TIFF"
        ) from error
    bounds, handles = _bounds(slide), _Handles(open_slide, slide)
    levels = [SlideLevel(path, slide, number, bounds, handles) for number in range(slide.level_count)]
    names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    sides = [float(slide.properties.get(name, "nan")) for name in names]
    size = sides[0] if math.isclose(*sides, rel_tol=0.01) else None
    return Pyramid(path, consistent_levels(path, levels), size, handles.close)


class SlideLevel:
    """A level of a slide in RGB, white where nothing was scanned, see `Level`.

    Args:
      path: the file.
      slide: the opened slide.
      number: number of the level.
      bounds: the part of the slide that is the image.
      handles: read the slide.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, slide: Any, number: int, bounds: Bounds, handles: _Handles) -> None:
        self._path, self._number, self._bounds, self._handles = path, number, bounds, handles
        self._factor = slide.level_downsamples[number]
        (full_width, full_height), (width, height) = slide.level_dimensions[0], slide.level_dimensions[number]
        rows, columns = bounds.height * height / full_height, bounds.width * width / full_width
        self.shape = (max(1, round(rows)), max(1, round(columns)), 3)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window, see `Level`."""
        check_window(self, top, left, height, width)
        corner = (
            self._bounds.left + round(left * self._factor),
            self._bounds.top + round(top * self._factor),
        )
        try:
            pixels = self._handles.read(corner, self._number, (width, height))
        except Exception as error:
            raise damaged(self._path, top, left, error) from error
        alpha = pixels[..., 3:].astype(np.uint16)
        return ((pixels[..., :3] * alpha + 255 * (255 - alpha)) // 255).astype(np.uint8)


class _Handles:
    """Opened copies of a slide, of which each thread that reads has its own.

    After an error a copy of OpenSlide reads nothing more, not even intact tiles: it is closed.

    Args:
      open_slide: opens another copy.
      first: an opened copy.
    """

    def __init__(self, open_slide: Callable[[], Any], first: Any) -> None:
        self._open_slide, self._idle = open_slide, [first]

    def read(self, corner: tuple[int, int], number: int, size: tuple[int, int]) -> np.ndarray:
        """Returns RGBA [h, w, 4] of a level; the corner is in pixels of the finest."""
        try:
            slide = self._idle.pop()
        except IndexError:
            slide = self._open_slide()
        try:
            pixels = np.asarray(slide.read_region(corner, number, size))
        except BaseException:
            slide.close()
            raise
        self._idle.append(slide)
        return pixels

    def close(self) -> None:
        """Closes the copies that are idle: all, unless a thread still reads."""
        while self._idle:
            self._idle.pop().close()


def _bounds(slide: Any) -> Bounds:
    """Returns the part of a slide that was scanned; the full slide if it does not state one inside."""
    full = Bounds(0, 0, *slide.level_dimensions[0])
    try:
        stated = Bounds(*(int(slide.properties[f"openslide.bounds-{side}"]) for side in SIDES))
    except (KeyError, ValueError):
        return full
    is_inside = (
        min(stated.left, stated.top) >= 0
        and min(stated.width, stated.height) > 0
        and stated.left + stated.width <= full.width
        and stated.top + stated.height <= full.height
    )
    return stated if is_inside else full
