"""Slides of scanners, by OpenSlide."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.readers.lazy.pyramid import Pyramid, check_window, consistent_levels, damaged
from segjax.errors import InputError


def open_slide_pyramid(path: Path) -> Pyramid:
    """Opens a slide.

    Raises:
      InputError: if the library openslide is not installed, or cannot read the file.
    """
    try:
        import openslide
    except ImportError:
        raise InputError(f'{path} needs the package openslide: pip install "segjax[slides]"') from None
    try:
        slide = openslide.OpenSlide(path)
    except Exception as error:
        raise InputError(
            f"{path} is no slide that OpenSlide can read ({error}): save it as OME-TIFF"
        ) from error
    levels = [SlideLevel(path, slide, number) for number in range(slide.level_count)]
    names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    sides = [float(slide.properties.get(name, "nan")) for name in names]
    size = sides[0] if math.isclose(*sides, rel_tol=0.01) else None
    return Pyramid(path, consistent_levels(path, levels), size, slide.close)


class SlideLevel:
    """A level of a slide in RGB, white where nothing was scanned, see `Level`.

    Args:
      path: the file.
      slide: the opened slide.
      number: number of the level.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, slide: Any, number: int) -> None:
        self._path, self._slide, self._number = path, slide, number
        width, height = slide.level_dimensions[number]
        self.shape = (height, width, 3)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window, see `Level`."""
        check_window(self, top, left, height, width)
        factor = self._slide.level_downsamples[self._number]
        corner = (round(left * factor), round(top * factor))
        try:
            pixels = np.asarray(self._slide.read_region(corner, self._number, (width, height)))
        except Exception as error:
            raise damaged(self._path, top, left, error) from error
        alpha = pixels[..., 3:].astype(np.uint16)
        return ((pixels[..., :3] * alpha + 255 * (255 - alpha)) // 255).astype(np.uint8)
