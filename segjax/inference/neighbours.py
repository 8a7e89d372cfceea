"""Counts the neighbours of each instance within a radius."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from segjax.errors import InputError

# A number, and a unit or nothing.
PATTERN = re.compile(r"(\d*\.?\d+)(um|px|)")


class Radius(NamedTuple):
    """A radius in micrometres or pixels.

    Attributes:
      length: number of units, above 0.
      unit: "um" or "px".
    """

    length: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Radius:
        """Reads a radius, such as "20um" or "40px"; a number alone is in micrometres.

        Raises:
          InputError: if the text is no radius, or the radius is not above 0.

        >>> Radius.parse("20").column
        'neighbours_within_20_um'
        """
        match = PATTERN.fullmatch(text.strip())
        length = float(match[1]) if match else 0.0
        if not match or not 0 < length < math.inf:
            raise InputError(
                f"--neighbours={text}: give a radius above 0 in micrometres or pixels, such as 20um or 40px"
            )
        return cls(length, match[2] or "um")

    @property
    def column(self) -> str:
        """Name of the column that counts the neighbours."""
        return f"neighbours_within_{self.length:g}_{self.unit}"

    def in_pixels(self, pixel_size: float | None, name: str) -> float:
        """Returns the radius in pixels.

        Args:
          pixel_size: side of a pixel in micrometres.
          name: the image, for the error.

        Raises:
          InputError: if it is in micrometres, and the pixel size is None.
        """
        if self.unit == "px":
            return self.length
        if pixel_size is None:
            raise InputError(
                f"{name} states no pixel size, so {self.length:g} um cannot be converted to pixels: give"
                f" --pixel_size, or a radius in pixels, such as --neighbours={self.length:g}px"
            )
        return self.length / pixel_size


def count_neighbours(centroids: np.ndarray, radius: float) -> np.ndarray:
    """Counts for each point the others that are at most `radius` away.

    Args:
      centroids: [N, 2] float, the points.
      radius: the radius, in the unit of the points.

    Returns:
      [N] int64, the number of other points.

    >>> count_neighbours(np.array([[0, 0], [0, 3], [4, 0]]), 4).tolist()
    [2, 1, 1]
    """
    if not len(centroids):
        return np.zeros(0, np.int64)
    counts = KDTree(centroids).query_ball_point(centroids, radius, return_length=True)
    return np.asarray(counts, np.int64) - 1
