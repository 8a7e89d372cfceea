"""Instance masks, cropped to their boxes, and label maps made from masks or colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from skimage.measure import label as connected_parts

from segjax.errors import InputError
from segjax.typing import IGNORE


class Cutout(NamedTuple):
    """Instance mask cropped to its bounding box, so that thousands of masks fit into memory.

    Attributes:
      top: row of the box's first pixel.
      left: column of the box's first pixel.
      mask: [h, w] bool.
    """

    top: int
    left: int
    mask: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, top: int = 0, left: int = 0) -> Cutout:
        """Crops a mask [h, w], whose first pixel is at `(top, left)`, to its True pixels."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return cls(top, left, np.zeros((0, 0), bool))
        inside = np.ascontiguousarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        return cls(top + int(rows[0]), left + int(columns[0]), inside)

    def moved(self, rows: int, columns: int, shape: tuple[int, int]) -> Cutout:
        """Returns the mask shifted by `(rows, columns)` and cropped to an image of shape `(H, W)`."""
        top, left = self.top + rows, self.left + columns
        inside = self.mask[max(0, -top) : max(0, shape[0] - top), max(0, -left) : max(0, shape[1] - left)]
        return Cutout.of(inside, max(0, top), max(0, left))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The bounding box `(x0, y0, x1, y1)` in pixels of the image."""
        height, width = self.mask.shape
        return self.left, self.top, self.left + width, self.top + height

    @property
    def window(self) -> tuple[slice, slice]:
        """Row and column slices of the box in the image."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def paint(cutouts: Sequence[Cutout], shape: tuple[int, int], *, smaller_on_top: bool = True) -> np.ndarray:
    """Paints instances into a label map.

    Args:
      cutouts: one for each instance, inside the image.
      shape: `(H, W)`.
      smaller_on_top: where instances overlap the smaller one is visible, on ties the later; if False, always
        the later.

    Returns:
      [H, W] int32: `index + 1` of the visible cutout; ids of fully hidden ones are missing.
    """
    labels = np.zeros(shape, np.int32)
    order = list(range(len(cutouts)))
    if smaller_on_top:
        order.sort(key=lambda index: (-int(cutouts[index].mask.sum()), index))
    for index in order:
        labels[cutouts[index].window][cutouts[index].mask] = index + 1
    return labels


def paint_best_first(
    cutouts: Iterable[Cutout], shape: tuple[int, int], *, max_overlap: float = 1.0
) -> np.ndarray:
    """Paints instances, the best ones on top, without those that contain or repeat a better one.

    Args:
      cutouts: one for each instance, inside the image, best first.
      shape: `(H, W)`.
      max_overlap: an instance is left out if it shares more than this fraction of its pixels, or of those of
        a better one, with the better one. 1 leaves out only what is hidden.

    Returns:
      [H, W] int32: `index + 1` of the visible cutout; ids of others are missing.

    >>> ring = Cutout(0, 0, np.ones((1, 4), bool))
    >>> paint_best_first([Cutout(0, 1, np.ones((1, 2), bool)), ring], (1, 5), max_overlap=0.5).tolist()
    [[0, 1, 1, 0, 0]]
    """
    labels, areas = np.zeros(shape, np.int32), [0]
    for number, cutout in enumerate(cutouts, start=1):
        areas.append(int(cutout.mask.sum()))
        window = labels[cutout.window]
        covered = window[cutout.mask]
        better, shared = np.unique(covered[covered > 0], return_counts=True)
        smaller = np.array([min(areas[other], areas[-1]) for other in better], int)
        if not (shared > max_overlap * smaller).any():
            window[cutout.mask & (window == 0)] = number
    return labels


def map_classes(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the class [H, W] int32 of each pixel from labels [H, W] 0..N and the class [N] of each id."""
    if (classes == 1).all():  # several times as fast as a look-up
        return (labels > 0).astype(np.int32)
    return np.take(np.concatenate([np.zeros(1, np.int32), classes]), labels)


def renumber(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns labels without gaps, [H, W] int32 in ascending order of the ids, and the number N of ids.

    Args:
      labels: [H, W] integers, 0 for background; ids are at least 0 and may have gaps.

    >>> renumber(np.array([[9, 0], [4, 9]]))[0].tolist()
    [[2, 0], [1, 2]]
    """
    highest = int(labels.max(initial=0))
    if highest > labels.size + 2**16:  # a table of all ids would need more memory than the image
        ids, dense = np.unique(labels, return_inverse=True)
        dense = dense.reshape(labels.shape) + int(ids[0] != 0)
        return dense.astype(np.int32), int((ids != 0).sum())
    is_present = np.zeros(highest + 1, bool)
    is_present[labels] = True
    is_present[0] = False
    numbers = np.cumsum(is_present, dtype=np.int32)
    count = int(numbers[-1])
    if count == highest:
        return labels.astype(np.int32), count
    return np.where(is_present, numbers, 0).astype(np.int32)[labels], count


def remove_small(labels: np.ndarray, min_area: int) -> np.ndarray:
    """Removes instances of fewer than `min_area` pixels and renumbers the others, in the same order.

    Args:
      labels: [H, W] int, 0 for background; ids may have gaps.
      min_area: smallest area to keep, pixels.

    Returns:
      [H, W] int32 labels 1..N.

    >>> remove_small(np.array([[1, 2, 2, 0, 7, 7]]), 2).tolist()
    [[0, 1, 1, 0, 2, 2]]
    """
    is_large = np.bincount(labels.ravel()) >= max(min_area, 1)
    is_large[0] = False
    return np.where(is_large, np.cumsum(is_large), 0)[labels].astype(np.int32)


def typical_diameter(labels: np.ndarray) -> float:
    """Returns the median diameter in pixels of the circles with the areas of the instances; NaN without one.

    Args:
      labels: [H, W] int, 0 for background; ids may have gaps.

    >>> round(typical_diameter(np.ones((20, 20), int)), 2)
    22.57
    """
    return median_diameter(np.bincount(labels.ravel())[1:])


def median_diameter(areas: np.ndarray) -> float:
    """Returns the median diameter, pixels, of circles with the areas [N] above 0; NaN without one."""
    areas = areas[areas > 0]
    return float(np.median(np.sqrt(areas * 4 / np.pi))) if len(areas) else float("nan")


def typical_area(labels: np.ndarray) -> float:
    """Returns the area-weighted median of the areas of the instances, pixels; 0 without an instance.

    Half of the foreground lies in instances at least as large, so that debris hardly affects it.

    Args:
      labels: [H, W] int, 0 for background; ids may have gaps.

    >>> typical_area(np.array([[1, 2, 3, 3, 3, 3]]))
    4.0
    """
    areas = np.bincount(labels.ravel())[1:]
    return weighted_median(areas, areas)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Returns the weighted median of values [N] with weights [N]; 0 for empty input."""
    if not len(values):
        return 0.0
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, cumulative[-1] / 2)])


def colour_ids(colours: np.ndarray) -> np.ndarray:
    """Converts a picture with one colour per instance to a label map whose ids have gaps.

    Args:
      colours: [H, W, 3 or 4] uint8. Background is where alpha is 0, or, if no pixel is transparent, black.

    Returns:
      [H, W] int32: 0 for background, else `red * 65536 + green * 256 + blue + 1`.

    Raises:
      ValueError: if the array is not an 8-bit colour picture.
    """
    if colours.ndim != 3 or colours.shape[-1] not in (3, 4) or colours.dtype != np.uint8:
        raise ValueError(
            f"a colour label picture is uint8 of [H, W, 3 or 4], not {colours.dtype} {colours.shape}"
        )
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    ids = (red << 16 | green << 8 | blue) + 1
    background = colours[..., 3:] == 0
    # Many programs write an alpha of 255 everywhere, which carries no information.
    background = background[..., 0] if background.any() else ids == 1
    return np.where(background, 0, ids).astype(np.int32)


def check_not_wrapped(labels: np.ndarray, where: str) -> None:
    """Refuses a label map of 8 or 16 bits in which more instances than ids were written.

    If a program counts beyond the largest value, the next ids are 0 and 1: every id is used, and id 1 twice.

    Args:
      labels: [H, W] integer, of the type in which it was written.
      where: what the map is, for the error.

    Raises:
      InputError: if every id of the type is used, and id 1 has several 8-connected parts.
    """
    if labels.itemsize > 2 or labels.dtype == bool:
        return
    largest = np.iinfo(labels.dtype).max
    is_full = labels.max(initial=0) == largest and np.bincount(labels.ravel())[1:].all()
    if is_full and connected_parts(labels == 1, connectivity=2).max() > 1:
        raise InputError(
            f"{where} uses every id of {labels.dtype}, and id 1 twice: it has more instances than ids, so"
            " save it as int32",
            kind="invalid_ids",
        )


def class_bytes(semantic: np.ndarray) -> np.ndarray:
    """Returns classes as uint8, 255 where they are `IGNORE`."""
    return np.where(semantic == IGNORE, 255, semantic).astype(np.uint8)
