"""Pictures of tracked cells: an outline and a tail in the colour of each track."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.segmentation import find_boundaries

# Fraction of a turn of the hue from one track to the next, so that consecutive tracks differ clearly.
GOLDEN = (5**0.5 - 1) / 2
# Longest side of a picture with thin lines, pixels; larger pictures have thicker ones.
LARGE = 1024


def track_colour(track: int) -> tuple[int, int, int]:
    """Returns the RGB colour of a track, 0 to 255, equal in all frames.

    >>> track_colour(1), track_colour(2)
    ((77, 129, 255), (181, 255, 77))
    """
    red, green, blue = colorsys.hsv_to_rgb(track * GOLDEN % 1, 0.7, 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_tracks(
    picture: np.ndarray, labels: np.ndarray, tails: Mapping[int, np.ndarray] | None = None
) -> np.ndarray:
    """Outlines cells in the colours of their tracks, and draws their last positions as tails.

    Args:
      picture: [H, W, 3] uint8, as from `to_display_rgb`.
      labels: [H, W] int, the track of each pixel, 0 for background.
      tails: by track, [L, 2] float, its last positions `(y, x)`, pixels.

    Returns:
      [H, W, 3] uint8.
    """
    thickness = 1 if max(picture.shape[:2]) <= LARGE else 2
    colours = np.zeros((int(labels.max(initial=0)) + 1, 3), np.uint8)
    for track in np.unique(labels[labels > 0]):
        colours[track] = track_colour(int(track))
    edges = find_boundaries(labels, connectivity=2, mode="inner")
    edges = ndimage.maximum_filter(edges, 2 * thickness - 1) & (labels > 0)
    drawn = np.where(edges[..., None], colours[labels], picture)
    canvas = Image.fromarray(drawn)
    draw = ImageDraw.Draw(canvas)
    for track, points in (tails or {}).items():
        draw.line([(x, y) for y, x in points.tolist()], track_colour(track), thickness)
    return np.asarray(canvas)
