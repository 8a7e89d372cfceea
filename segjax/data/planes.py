"""Chooses one plane of a stack, such as one focus or one point in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from segjax.errors import InputError

# Letters of tifffile for axes that never hold channels: depth, time, tile, angle, phase, event.
PLANES = frozenset("ZTRAPV")
# Those of rows, columns and samples.
PIXELS = frozenset("YXS")


class Plane(NamedTuple):
    """A plane of a stack.

    Attributes:
      selection: index of the stored array that gives the plane.
      axes: letters of the remaining axes.
      shape: lengths of the remaining axes.
      channel_axis: axis of the channels among the remaining axes, None if it is not known.
    """

    selection: tuple[int | slice, ...]
    axes: str
    shape: tuple[int, ...]
    channel_axis: int | None


def choose_plane(
    name: object, axes: str, shape: tuple[int, ...], planes: Mapping[str, int], channel_axis: int | None
) -> Plane:
    """Chooses a plane of a stored array.

    Args:
      name: the file, for errors.
      axes: a letter for each axis.
      shape: the length of each axis.
      planes: position along an axis, by its letter in upper case, or by its number in the stored array. Axes
        that the array does not have are ignored, so that one choice works for a folder of stacks and images;
        a number never chooses a row, column or sample of a TIFF, or of a NumPy file that is an image, see
        `find_layout`.
      channel_axis: number of the axis of the channels in the stored array.

    Raises:
      InputError: if the position is outside the stack, or several axes have the letter.

    >>> choose_plane("a.tif", "TZYX", (5, 9, 64, 48), {"Z": 3, "T": 0}, None).selection
    (0, 3, slice(None, None, None), slice(None, None, None))
    """
    chosen: dict[int, int] = {}
    if len(shape) > 2:
        for number, letter in enumerate(axes):
            if letter in planes and axes.count(letter) > 1:
                raise _several_axes(name, axes, letter)
            for key in (letter, *(() if letter in PIXELS else (str(number),))):
                if key in planes:
                    chosen[number] = planes[key]
    for number, position in chosen.items():
        if not 0 <= position < shape[number]:
            raise InputError(
                f"{name} has {shape[number]} planes along its axis {axes[number]} ({number}), so there is no"
                f" plane {position}: choose one from 0 to {shape[number] - 1}"
            )
    if channel_axis is not None and -len(shape) <= channel_axis < len(shape):
        channel_axis %= len(shape)
    if not chosen:
        return Plane((), axes, shape, channel_axis)
    rest = [number for number in range(len(shape)) if number not in chosen]
    if channel_axis is not None:
        channel_axis = rest.index(channel_axis) if channel_axis in rest else None
    selection = tuple(chosen.get(number, slice(None)) for number in range(len(shape)))
    return Plane(
        selection, "".join(axes[number] for number in rest), tuple(shape[n] for n in rest), channel_axis
    )


def _several_axes(name: object, axes: str, letter: str) -> InputError:
    numbers = [number for number, other in enumerate(axes) if other == letter]
    choice = ",".join(f"{number}=0" for number in numbers)
    return InputError(
        f"{name} has several axes {letter}, with the numbers {' and '.join(map(str, numbers))}: choose their"
        f" planes by number, such as --axis={choice}",
        kind="unclear_axes",
    )


def parse_planes(texts: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Returns axes and positions of texts such as `Z=12`, for `choose_plane`.

    Raises:
      InputError: if a text is not an axis with a position, or an axis is named twice.

    >>> parse_planes(["t=0", "Z=12"])
    (('T', 0), ('Z', 12))
    """
    try:
        pairs = [text.split("=") for text in texts]
        planes = tuple((name.strip().upper(), int(position)) for name, position in pairs)
    except ValueError:
        raise InputError(f"--axis={','.join(texts)} is not a plane such as Z=12 or T=0,Z=12") from None
    names = [name for name, _ in planes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"--axis={','.join(texts)} names the axis {twice[0]} twice: choose one plane of it")
    return planes


def unclear_axes(path: object, axes: str, shape: tuple[int, ...]) -> InputError:
    """Returns the error for a stack of which neither a plane nor the channels are known."""
    others = [letter for letter in axes if letter not in "YXSC"]
    along, remedy = "", "give channel_axis if one axis holds channels; else "
    if others and PLANES.issuperset(others):
        along, remedy = f" along {' and '.join(others)}", ""
    if len(shape) < 2:
        return InputError(f"{path} holds an array of shape {shape}, not an image", kind="unclear_axes")
    names = "whose axes have no names" if axes.isdigit() else f"with the axes {axes}"
    return InputError(
        f"{path} is a stack of shape {shape} {names}, not an image: {remedy}choose one plane{along}, or save"
        " one plane for each file",
        kind="unclear_axes",
    )
