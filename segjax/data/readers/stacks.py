"""The axis along which a file stacks images, such as time or depth."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from segjax.data.readers.array import read_header, without_ones
from segjax.data.readers.axes import MAX_UNNAMED_CHANNELS
from segjax.data.readers.limits import TIFF_SUFFIXES, unreadable
from segjax.data.readers.tiff import largest_series, long_axes, open_tiff
from segjax.errors import InputError


class StackAxis(NamedTuple):
    """An axis of a stack.

    Attributes:
      number: number of the axis in the stored array, as a text that `read_image` takes in `planes`.
      length: number of images along it.
    """

    number: str
    length: int


def find_stack_axis(
    path: Path, letter: str, *, channel_axis: int | None = None, chosen: Collection[str] = ()
) -> StackAxis | None:
    """Finds the axis along which a file stacks images.

    Args:
      path: image file; only its metadata is read.
      letter: the name of the axis, T or Z. If no axis has this name, it is the only axis that is not one of
        rows, columns or channels.
      channel_axis: axis of the channels, see `read_image`.
      chosen: letters and numbers of the axes along which one plane is chosen.

    Returns:
      The axis, None if the file has no such axis.

    Raises:
      InputError: if the file cannot be read, or several axes are possible.
    """
    try:
        axes, shape = _stored_axes(path, channel_axis)
    except Exception as error:  # tifffile raises many types
        raise unreadable(path, error) from error
    if len(shape) < 3:
        return None
    channels = set() if channel_axis is None else {channel_axis % len(shape)}
    others = [number for number, axis in enumerate(axes) if axis not in "YXSC" and number not in channels]
    if axes.isdigit():
        if not channels and shape[-1] <= MAX_UNNAMED_CHANNELS:
            others = others[:-1]
        others = others[:-2]
    others = [number for number in others if not {axes[number], str(number)} & set(chosen)]
    named = [number for number in others if axes[number] == letter] or others
    if len(named) > 1:
        lengths = " and ".join(f"{number} of {shape[number]} planes" for number in named)
        raise InputError(
            f"{path} has several axes that may be {letter}: {lengths}; choose a plane of all others, such as"
            f" --axis={named[-1]}=0",
            kind="unclear_axes",
        )
    return StackAxis(str(named[0]), shape[named[0]]) if named else None


def _stored_axes(path: Path, channel_axis: int | None) -> tuple[str, tuple[int, ...]]:
    """Returns letters and lengths of the stored array, see `find_layout`."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        with open_tiff(path) as tiff:
            axes, shape = zip(*long_axes(largest_series(tiff)), strict=True)
            return "".join(axes), shape
    if suffix == ".npy":
        with path.open("rb") as file:
            shape = without_ones(read_header(file)[0], channel_axis)
        return "".join(map(str, range(len(shape)))), shape
    return "YX", (1, 1)
