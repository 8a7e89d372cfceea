"""Which axes of a stored array are rows, columns and channels; one rule for TIFF and NumPy files."""

from __future__ import annotations

from typing import NamedTuple

from segjax.data.planes import choose_plane, unclear_axes
from segjax.data.readers.limits import NO_PLANES, File, Request, check_size
from segjax.errors import InputError

# Letters of tifffile for axes without a name, and the numbers of the axes of a NumPy array.
UNNAMED = frozenset("QI0123456789")
MAX_CHANNELS = 64
# Grey, grey with alpha, colour, colour with alpha.
MAX_UNNAMED_CHANNELS = 4


class Layout(NamedTuple):
    """Where an image is in a stored array.

    Attributes:
      selection: index of the stored array that gives [H, W] or an array of three axes.
      order: transposes the selected array to [H, W] or [H, W, C].
      samples: whether the channels are the samples of TIFF pixels, which may include alpha.
    """

    selection: tuple[int | slice, ...]
    order: tuple[int, ...]
    samples: bool


def find_layout(path: File, axes: str, shape: tuple[int, ...], request: Request) -> Layout:
    """Finds rows, columns and channels by the names of the axes.

    An array of three axes without names has its channels last, if there are at most four and both other axes
    are longer. Such a NumPy array is an image, of which no plane is taken. All other arrays need
    `channel_axis`.

    Args:
      path: the file, for errors.
      axes: a letter of tifffile for each axis, or the number of an axis without a name.
      shape: lengths of the axes.
      request: the planes, the axis of the channels and the bound on the number of pixels.

    Raises:
      InputError: if it is not clear which axis has the channels, or the image is too large.
    """
    natural, planes = _channel_axis(axes, shape), request.planes
    if axes.isdigit() and natural is not None and request.channel_axis in (None, natural, natural - 3):
        planes = NO_PLANES
    selection, axes, shape, channel_axis = choose_plane(path, axes, shape, planes, request.channel_axis)
    if len(shape) == 2:
        channel_axis = None  # so that one flag works for a folder of colour and grey images
    elif channel_axis is None:
        channel_axis = _channel_axis(axes, shape)
        if channel_axis is None:
            raise unclear_axes(path, axes, shape)
    order: tuple[int, ...] = (0, 1)
    if channel_axis is not None:
        if len(shape) != 3 or not -3 <= channel_axis < 3:
            raise InputError(
                f"{path} holds an array of shape {shape}, which has no channels along axis {channel_axis}; an"
                " image has rows, columns and channels",
                kind="unclear_axes",
            )
        channel_axis %= 3
        if shape[channel_axis] > MAX_CHANNELS:
            raise InputError(
                f"{path} of shape {shape} would have {shape[channel_axis]} channels; give channel_axis if"
                " another axis holds the channels",
                kind="unclear_axes",
            )
        order = (*(axis for axis in range(3) if axis != channel_axis), channel_axis)
    check_size(path, shape[order[0]], shape[order[1]], request.max_pixels)
    return Layout(selection, order, channel_axis is not None and axes[channel_axis] == "S")


def _channel_axis(axes: str, shape: tuple[int, ...]) -> int | None:
    """Returns the axis of the channels among three, None if it is not clear."""
    if len(shape) != 3:
        return None
    named = [number for number, axis in enumerate(axes) if axis in "SC"]
    if len(named) == 1 and set(axes) <= set("YXSC"):
        return named[0]
    rows, columns, last = shape
    is_last = UNNAMED & set(axes) and not named and last <= MAX_UNNAMED_CHANNELS and last < min(rows, columns)
    return 2 if is_last else None
