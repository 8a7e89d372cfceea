"""The resolution at which a large image is segmented, and the region that is segmented."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

from segjax.data.pixel_size import is_plausible, question
from segjax.data.readers.lazy import Level, Matched, Pyramid, Rescaled
from segjax.errors import InputError
from segjax.files import file_digest

# Largest and smallest factor from the finest level to the image that is segmented, against wrong pixel sizes.
FINEST, COARSEST = 4.0, 1 / 256
# Relative difference of pixel sizes up to which an image is not rescaled.
SAME = 0.02
TISSUE = "tissue"


@dataclasses.dataclass(frozen=True)
class View:
    """The resolution at which an image is segmented, and the region that is segmented.

    Attributes:
      level: number of the level, 0 for the finest; None for the finest or `mpp`.
      mpp: micrometres per pixel to which the image is rescaled; None for the resolution of the level.
      region: a rectangle `x,y,width,height` or a GeoJSON file, in pixels of the finest level, or "tissue"; ""
        for the full image.

    Raises:
      InputError: if a value is out of range, or there are both level and mpp.
    """

    level: int | None = None
    mpp: float | None = None
    region: str = ""

    def __post_init__(self) -> None:
        if self.level is not None and self.mpp is not None:
            raise InputError("--level and --mpp both choose the resolution: give one of them")
        if self.level is not None and self.level < 0:
            raise InputError(f"--level={self.level} must be at least 0, the finest level")
        if self.mpp is not None and not is_plausible(self.mpp):
            raise InputError(f"--mpp={self.mpp:g} states {question(self.mpp)}")

    @property
    def is_asked(self) -> bool:
        """Whether anything but the default is asked for: the full image at its finest level."""
        return self != View()


class Viewed(NamedTuple):
    """An image at the resolution at which it is segmented.

    Attributes:
      level: the image.
      pixel_size: side of its pixels in micrometres, None if it is unknown.
      to_file: side of its pixels, in pixels of the finest level.
    """

    level: Level
    pixel_size: float | None
    to_file: float


def open_view(
    pyramid: Pyramid, view: View, *, pixel_size: float | None, selected: Sequence[int], channels: int | None
) -> Viewed:
    """Returns an image at the resolution of a view.

    Args:
      pyramid: the image.
      view: its resolution is used.
      pixel_size: side of a pixel of the finest level in micrometres; that of the file if None.
      selected: the channels to use; all if empty.
      channels: number of channels that the method expects; None for any.

    Raises:
      InputError: if there is no such level, or the pixel size is needed and unknown, or not plausible.
    """
    path, count = pyramid.path, len(pyramid.levels)
    size = _pixel_size(pyramid, pixel_size, view)
    number, factor = view.level or 0, 1.0
    if number >= count:
        raise InputError(f"--level={number}: {path} has {count} levels, choose one from 0 to {count - 1}")
    sides = [_side(pyramid, level) for level in pyramid.levels]
    if view.mpp is not None:
        assert size is not None
        if not COARSEST <= size / view.mpp <= FINEST:
            raise InputError(
                f"--mpp={view.mpp:g}: {path} has {size:.4g} um per pixel, {size / view.mpp:.3g} times as"
                " much: check both, --pixel_size corrects that of the file"
            )
        # The coarsest level that is not coarser than the resolution asked for.
        sizes = [size * side for side in sides]
        number = max(index for index in range(count) if index == 0 or sizes[index] <= view.mpp * (1 + SAME))
        factor = sizes[number] / view.mpp
    level: Level = Matched(pyramid.levels[number], selected, channels, str(path))
    to_file = sides[number]
    if abs(factor - 1) > SAME:
        level, to_file = Rescaled(level, factor), to_file / factor
    return Viewed(level, None if size is None else size * to_file, to_file)


def _side(pyramid: Pyramid, level: Level) -> float:
    """Returns the side of a pixel of a level, in pixels of the finest level.

    Height and width of a level are rounded. Where a whole number explains both, it is exact; else the longer
    side states it best.
    """
    pairs = list(zip(pyramid.shape[:2], level.shape[:2], strict=True))
    full, coarse = max(pairs)
    whole = round(full / coarse)
    is_whole = all(abs(length - whole * part) < whole for length, part in pairs)
    return float(whole) if is_whole else full / coarse


def _pixel_size(pyramid: Pyramid, pixel_size: float | None, view: View) -> float | None:
    """Returns the pixel size of the finest level in micrometres; None if it is unknown or not plausible."""
    size = pyramid.pixel_size if pixel_size is None else pixel_size
    if size is None:
        if view.mpp is not None:
            raise InputError(
                f"--mpp={view.mpp:g} needs the pixel size, which {pyramid.path} does not state: give"
                " --pixel_size, in micrometres"
            )
        return None
    if not is_plausible(size) and pixel_size is None:
        if view.mpp is not None:
            raise InputError(f"{pyramid.path} states {question(size)}: give --pixel_size, in micrometres")
        logging.warning("%s states %s, which is not used", pyramid.path, question(size))
        return None
    return size


def region_file(view: View) -> Path | None:
    """Returns the GeoJSON file of a view; None if its region is no file."""
    text = view.region
    return None if not text or text == TISSUE or text.count(",") == 3 else Path(text).expanduser()


def view_digest(view: View, pixel_size: float | None) -> str:
    """Returns what determines the segmented pixels besides the settings of a view.

    Args:
      view: the content of its GeoJSON file counts.
      pixel_size: the pixel size that is stated; it counts if the image is rescaled by it.

    Raises:
      OSError: if the GeoJSON file cannot be read.
    """
    region = region_file(view)
    content = file_digest(region) if region is not None and region.is_file() else ""
    return content if view.mpp is None else f"{content} {pixel_size}"
