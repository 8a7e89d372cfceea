"""Orientation of an image, as EXIF and TIFF store it."""

from __future__ import annotations

import numpy as np

# Number of the tag, in EXIF and TIFF.
ORIENTATION = 274
# The orientations that exchange rows and columns, and those that then mirror them.
TRANSPOSED = (5, 6, 7, 8)
MIRRORED_ROWS, MIRRORED_COLUMNS = (3, 4, 7, 8), (2, 3, 6, 7)


def upright(pixels: np.ndarray, orientation: object) -> np.ndarray:
    """Turns an image as viewers and annotation tools show it.

    Args:
      pixels: [H, W, ...] as stored.
      orientation: 1 to 8 as in EXIF; anything else counts as 1, upright.

    Returns:
      A view of the pixels; rows and columns are exchanged by the orientations 5 to 8.

    >>> upright(np.array([[1, 2, 3]]), 6).tolist()
    [[1], [2], [3]]
    """
    if orientation in TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in MIRRORED_ROWS:
        pixels = pixels[::-1]
    if orientation in MIRRORED_COLUMNS:
        pixels = pixels[:, ::-1]
    return pixels
