"""The parts of a large image that are segmented: a rectangle, polygons, or tissue."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import points_in_poly

from segjax.data.readers.lazy import Level
from segjax.errors import InputError
from segjax.inference.large.grid import Box
from segjax.segmentation.masks import remove_small

# Largest side of the picture on which tissue is separated from glass.
THUMBNAIL = 1024
# Smallest part of the picture, as a fraction, that counts as tissue.
SPECK = 2e-4


class Region(Protocol):
    """A part of an image; coordinates are in its pixels, with pixel edges at integers."""

    def meets(self, box: Box) -> bool:
        """Returns whether the region may have a pixel in a box."""

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Returns whether each of [P, 2] points `(x, y)` is inside, [P] bool."""


@dataclasses.dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons, each a list of rings [V, 2] of `(x, y)`: its outline, then its holes."""

    polygons: Sequence[Sequence[np.ndarray]]

    def meets(self, box: Box) -> bool:
        """Returns whether the bounding box of a polygon meets a box."""
        tops, lefts, bottoms, rights = self._sides
        rows = (tops < box.bottom) & (bottoms > box.top)
        return bool((rows & (lefts < box.right) & (rights > box.left)).any())

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Returns whether each point is in a polygon."""
        inside = np.zeros(len(points), bool)
        for rings, bounds in zip(self.polygons, self._boxes, strict=True):
            x, y = points.T
            near = (x >= bounds.left) & (x <= bounds.right) & (y >= bounds.top) & (y <= bounds.bottom)
            crossed = np.zeros(int(near.sum()), bool)
            for ring in rings:
                crossed ^= points_in_poly(points[near], ring)
            inside[near] |= crossed
        return inside

    @functools.cached_property
    def _boxes(self) -> list[Box]:
        return [_bounds(rings) for rings in self.polygons]

    @functools.cached_property
    def _sides(self) -> np.ndarray:
        """Sides of the bounding boxes, [4, P]."""
        return np.array(self._boxes, int).reshape(-1, 4).T


class Mask(NamedTuple):
    """A mask [h, w] bool that is stretched over an image of `shape`."""

    mask: np.ndarray
    shape: tuple[int, int]

    def meets(self, box: Box) -> bool:
        """Returns whether the mask is true at a pixel of a box."""
        (down, across), (height, width) = self.mask.shape, self.shape
        rows = slice(box.top * down // height, -(-box.bottom * down // height))
        columns = slice(box.left * across // width, -(-box.right * across // width))
        return bool(self.mask[rows, columns].any())

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Returns whether each point is in the mask."""
        last = np.array(self.mask.shape) - 1
        scale = np.array(self.mask.shape) / np.array(self.shape)
        rows, columns = np.minimum((points[:, ::-1] * scale).astype(int), last).T
        return self.mask[rows, columns]


def parse_rectangle(text: str, shape: tuple[int, int]) -> Polygons | None:
    """Returns the rectangle of a text `x,y,width,height` in an image `(H, W)`; None for any other text.

    Raises:
      InputError: if it is empty, or not inside the image.
    """
    parts = text.split(",")
    try:
        x, y, width, height = (float(part) for part in parts)
    except ValueError:
        return None
    # Comparisons with NaN are false.
    if not (width > 0 and height > 0 and 0 <= x <= shape[1] - width and 0 <= y <= shape[0] - height):
        raise InputError(
            f"--region={text} is not inside the image of {shape[1]} x {shape[0]} pixels: give"
            " x,y,width,height in pixels of its finest level"
        )
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return Polygons([[np.array(corners)]])


def read_polygons(path: Path, shape: tuple[int, int]) -> Polygons:
    """Reads the polygons of a GeoJSON file, in pixels of an image `(H, W)`.

    Raises:
      InputError: if the file has no polygon, or one that has no area or is not inside the image.
    """
    try:
        polygons = list(_polygons(json.loads(path.read_bytes())))
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise InputError(
            f"--region={path} is neither a rectangle x,y,width,height, nor tissue, nor a GeoJSON file of"
            f" polygons ({error})"
        ) from error
    if not polygons:
        raise InputError(f"--region={path} holds no polygon: draw one, or leave --region out")
    for rings in polygons:
        bounds = _bounds(rings)
        if min(bounds.top, bounds.left) < -1 or bounds.bottom > shape[0] + 1 or bounds.right > shape[1] + 1:
            raise InputError(
                f"--region={path} has a polygon at x={bounds.left} to {bounds.right}, y={bounds.top} to"
                f" {bounds.bottom}, outside of the image of {shape[1]} x {shape[0]} pixels: give the polygons"
                " of this image, in pixels of its finest level"
            )
        if np.linalg.matrix_rank(rings[0] - rings[0][0]) < 2:
            x, y = rings[0][0]
            raise InputError(
                f"--region={path} has a polygon without area, a line or a point at x={x:g}, y={y:g}: draw it"
                " again, or remove it"
            )
    return Polygons(polygons)


def scaled(region: Polygons, factor: float) -> Polygons:
    """Returns polygons with all coordinates multiplied by a factor, for an image of another resolution."""
    return Polygons([[ring * factor for ring in rings] for rings in region.polygons])


def find_tissue(levels: Sequence[Level], shape: tuple[int, int]) -> tuple[Mask, np.ndarray]:
    """Separates tissue, or cells, from an empty background by Otsu's threshold on a small picture.

    Args:
      levels: the image, from the finest to the coarsest level.
      shape: `(H, W)` over which the mask is stretched.

    Returns:
      The mask, and the picture [h, w, C] float32.

    Raises:
      InputError: if the picture is constant.
    """
    picture = thumbnail(levels)
    grey = ndimage.gaussian_filter(picture.mean(axis=2), 1.0)
    if not grey.max() > grey.min():
        raise InputError("--region=tissue finds no tissue, because the image is constant: leave it out")
    is_bright = grey > threshold_otsu(grey)
    # Most of the edge of a slide is empty.
    edge = np.concatenate([is_bright[0], is_bright[-1], is_bright[:, 0], is_bright[:, -1]])
    is_tissue = ndimage.binary_fill_holes(is_bright ^ (edge.mean() > 0.5))
    parts = remove_small(ndimage.label(is_tissue)[0], int(SPECK * is_tissue.size))
    if not parts.any():
        raise InputError("--region=tissue finds only specks: give another region, or leave it out")
    return Mask(ndimage.binary_dilation(parts > 0, iterations=2), shape), picture


def thumbnail(levels: Sequence[Level]) -> np.ndarray:
    """Returns a picture [h, w, C] float32 of at most `THUMBNAIL` pixels per side, whose pixels are means."""
    level = next((one for one in levels if max(one.shape[:2]) <= 2 * THUMBNAIL), levels[-1])
    height, width, channels = level.shape
    side = -(-max(height, width) // THUMBNAIL)
    picture = np.zeros((-(-height // side), -(-width // side), channels), np.float32)
    step = side * max(1, 2048 // side)
    for top in range(0, height, step):
        for left in range(0, width, step):
            window = level.read(top, left, min(step, height - top), min(step, width - left))
            padding = [(0, -window.shape[0] % side), (0, -window.shape[1] % side), (0, 0)]
            window = np.pad(window.astype(np.float32), padding, mode="edge")
            blocks = window.reshape(window.shape[0] // side, side, -1, side, channels).mean(axis=(1, 3))
            row, column = top // side, left // side
            picture[row : row + blocks.shape[0], column : column + blocks.shape[1]] = blocks
    return picture


def _polygons(content: Any) -> Iterator[list[np.ndarray]]:
    if isinstance(content, list):
        for one in content:
            yield from _polygons(one)
    elif content["type"] == "FeatureCollection":
        yield from _polygons(content["features"])
    elif content["type"] == "Feature":
        yield from _polygons(content["geometry"])
    elif content["type"] == "GeometryCollection":
        yield from _polygons(content["geometries"])
    elif content["type"] in ("Polygon", "MultiPolygon"):
        coordinates = content["coordinates"]
        for rings in [coordinates] if content["type"] == "Polygon" else coordinates:
            arrays = [np.array(ring, np.float64)[:, :2] for ring in rings]
            if not arrays or not all(np.isfinite(ring).all() and len(ring) > 2 for ring in arrays):
                raise ValueError("a polygon has fewer than three corners, or one that is not finite")
            yield arrays


def _bounds(rings: Sequence[np.ndarray]) -> Box:
    low, high = np.floor(rings[0].min(axis=0)), np.ceil(rings[0].max(axis=0))
    return Box(int(low[1]), int(low[0]), int(high[1]), int(high[0]))
