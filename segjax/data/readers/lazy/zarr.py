"""OME-Zarr of Zarr 2 and 3, read chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from segjax.data.pixel_size import micrometres
from segjax.data.readers.axes import find_layout
from segjax.data.readers.lazy.pyramid import Pyramid, check_window, consistent_levels, damaged
from segjax.data.readers.limits import Request
from segjax.errors import InputError


def open_zarr_pyramid(path: Path, request: Request) -> Pyramid:
    """Opens the first image of an OME-Zarr.

    Raises:
      InputError: if the library zarr is not installed, the folder is no OME-Zarr, or its axes are not clear.
    """
    try:
        import zarr
    except ImportError:
        raise InputError(f'{path} needs the package zarr: pip install "segjax[slides]"') from None
    try:
        group: Any = zarr.open_group(path, mode="r")
        about: Mapping[str, Any] = {**group.attrs}
        scales = about.get("ome", about)["multiscales"][0]
        # Axes have names since version 0.4; before, there were five.
        axes = "".join(
            axis["name"] if isinstance(axis, dict) else axis for axis in scales.get("axes", "tczyx")
        )
        arrays = [group[one["path"]] for one in scales["datasets"]]
        arrays = _with_planes_of_the_first(path, arrays, axes)
        levels = [ZarrLevel(path, array, axes.upper(), request) for array in arrays]
        return Pyramid(path, consistent_levels(path, levels), _pixel_size(scales), lambda: None)
    except InputError:
        raise
    except Exception as error:  # zarr raises many types
        raise InputError(
            f"{path} is no image in OME-Zarr ({error}): give the folder that has multiscales in its metadata"
        ) from error


class ZarrLevel:
    """A level of an OME-Zarr, see `Level`.

    Args:
      path: the folder of the OME-Zarr.
      array: the Zarr array of the level.
      axes: a letter for each axis of the array.
      request: the plane, and the axis of the channels.
    """

    def __init__(self, path: Path, array: Any, axes: str, request: Request) -> None:
        self._path, self._array = path, array
        pairs = [
            (axis, size) for axis, size in zip(axes, array.shape, strict=True) if axis in "YX" or size > 1
        ]
        names, stored = "".join(axis for axis, _ in pairs), tuple(size for _, size in pairs)
        layout = find_layout(path, names, stored, request)
        self._order = layout.order
        chosen = iter(layout.selection or (slice(None),) * len(stored))
        # Axes of length 1 have no entry in the layout: their index is 0.
        self._selection = [
            next(chosen) if axis in "YX" or size > 1 else 0
            for axis, size in zip(axes, array.shape, strict=True)
        ]
        self._rows, self._columns = axes.index("Y"), axes.index("X")
        lengths = dict(pairs)
        # The number of channels comes from zeros, because the first chunk may be damaged.
        pixel = self._as_image(
            np.broadcast_to(np.zeros((), array.dtype), array.shape)[self._window(0, 0, 1, 1)]
        )
        self.shape, self.dtype = (lengths["Y"], lengths["X"], pixel.shape[2]), pixel.dtype

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window, see `Level`."""
        check_window(self, top, left, height, width)
        try:
            pixels = np.asarray(self._array[self._window(top, left, height, width)])
        except Exception as error:  # codecs raise many types
            raise damaged(self._path, top, left, error) from error
        return self._as_image(pixels)

    def _window(self, top: int, left: int, height: int, width: int) -> tuple[int | slice, ...]:
        """Returns the index of a window in the Zarr array."""
        selection = list(self._selection)
        selection[self._rows] = slice(top, top + height)
        selection[self._columns] = slice(left, left + width)
        return tuple(selection)

    def _as_image(self, pixels: np.ndarray) -> np.ndarray:
        """Returns a selected window as [h, w, C]."""
        return pixels.transpose(self._order) if len(self._order) == 3 else pixels[..., None]


def _with_planes_of_the_first(path: Path, arrays: Sequence[Any], axes: str) -> list[Any]:
    """Leaves out arrays whose planes are fewer than those of the first: their plane 3 is another one."""

    def planes(array: Any) -> dict[str, int]:
        return {axis: size for axis, size in zip(axes, array.shape, strict=True) if axis not in "yx"}

    kept = [array for array in arrays if planes(array) == planes(arrays[0])]
    if len(kept) < len(arrays):
        left_out = len(arrays) - len(kept)
        logging.warning("%s: levels with other planes than the first are not used (%d)", path, left_out)
    return kept


def _pixel_size(scales: Mapping[str, Any]) -> float | None:
    """Returns the side of a pixel in micrometres; None if it is not stated, or pixels are not square."""
    axes, sides = scales.get("axes", ()), []
    transformations = [
        *scales["datasets"][0].get("coordinateTransformations", ()),
        *scales.get("coordinateTransformations", ()),
    ]
    for number, axis in enumerate(axes):
        if isinstance(axis, dict) and axis["name"] in ("y", "x"):
            unit = micrometres(axis.get("unit"))
            factors = [one["scale"][number] for one in transformations if one.get("type") == "scale"]
            if unit is None or not factors:
                return None
            sides.append(unit * math.prod(factors))
    return sides[0] if len(sides) == 2 and math.isclose(*sides, rel_tol=0.01) else None
