"""The outline of one ROI of ImageJ, with pixel edges at integers, as ImageJ draws it."""

from __future__ import annotations

import struct

import numpy as np
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi
from scipy.interpolate import CubicSpline

from segjax.datasets.formats.documents import JsonField

OUTLINES = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
# Subtypes that cover no cell.
MARKS = (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.ARROW, ROI_SUBTYPE.IMAGE)
# Vertices of a turn, and of the spline between two points: the line is within a hundredth of a pixel of the
# curve if its radius is below a hundred pixels.
VERTICES = 256
BETWEEN = 32


def outline_of(roi: ImagejRoi, entry: JsonField) -> list[np.ndarray]:
    """Returns the closed lines of a ROI, for `fill`; of an upright ellipse its box, for `fill_ellipse`.

    Rotated rectangles and ellipses are computed from their axis: the vertices that ImageJ saves beside it are
    rounded. Of a fitted spline ImageJ saves only the points that it passes through.

    Args:
      roi: the ROI.
      entry: its name, for errors.

    Returns:
      Lines [V, 2] float64 of three vertices or more, `(x, y)`.

    Raises:
      InputError: if it covers no area, or a coordinate is not finite.
    """
    if roi.subtype in MARKS:
        raise entry.error("subtype", f"{roi.subtype.name} covers no cell")
    if roi.composite or roi.roitype in OUTLINES:
        rings = _vertices(roi)
    elif roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        rings = [_box(roi)]
    else:
        raise entry.error("type", f"{roi.roitype.name} covers no area")
    if not all(np.isfinite(ring).all() for ring in rings):
        raise entry.error("coordinates", "hold NaN or an infinite number")
    longest = max(map(len, rings), default=0)
    if longest < 3:
        raise entry.error("coordinates", f"has {longest} points, which make no area")
    return rings


def _vertices(roi: ImagejRoi) -> list[np.ndarray]:
    """Returns the lines of a polygon, of a drawn or fitted shape, or of a composite shape."""
    is_fitted = roi.subtype in (ROI_SUBTYPE.ELLIPSE, ROI_SUBTYPE.ROTATED_RECT)
    if is_fitted and not roi.composite and (roi.x1, roi.y1) != (roi.x2, roi.y2):
        return [_around_axis(roi)]
    rings = [np.asarray(ring, np.float64) for ring in roi.coordinates(multi=True)]
    is_spline = bool(roi.options & ROI_OPTIONS.SPLINE_FIT) and not roi.composite
    return [_spline(ring) if is_spline and np.isfinite(ring).all() else ring for ring in rings]


def _around_axis(roi: ImagejRoi) -> np.ndarray:
    """Returns the outline of an ellipse or rectangle by the ends of its axis and its width."""
    start, end = np.array([[roi.x1, roi.y1], [roi.x2, roi.y2]], np.float64)
    # A float in bytes that other types use for three numbers.
    parts = (roi.arrow_style_or_aspect_ratio, roi.arrow_head_size, roi.rounded_rect_arc_size)
    (number,) = struct.unpack(">f", struct.pack(">BBh", *parts))
    across = (end - start)[::-1] * [-1, 1]
    if roi.subtype == ROI_SUBTYPE.ELLIPSE:
        # The number is the ratio of the axes.
        angles = np.arange(VERTICES)[:, None] * (2 * np.pi / VERTICES)
        along = (end - start) * np.cos(angles) + across * number * np.sin(angles)
        return (start + end) / 2 + along / 2
    # The number is the width in pixels.
    side = across / np.hypot(*across) * number / 2
    return np.array([start - side, end - side, end + side, start + side])


def _spline(ring: np.ndarray) -> np.ndarray:
    """Returns the closed cubic spline through points, with a point at every integer, as ImageJ fits it."""
    if len(ring) < 3:
        return ring
    closed = np.concatenate([ring, ring[:1]])
    curve = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")
    return curve(np.arange(len(ring) * BETWEEN) / BETWEEN)


def _box(roi: ImagejRoi) -> np.ndarray:
    """Returns the outline of an upright rectangle, also with round corners, or the box of an ellipse."""
    low, high = np.array([[roi.left, roi.top], [roi.right, roi.bottom]], np.float64)
    if roi.subpixelrect and roi.widthd > 0:
        low = np.array([roi.xd, roi.yd])
        high = low + np.array([roi.widthd, roi.heightd])
    size = high - low
    corner = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    if roi.roitype == ROI_TYPE.OVAL or roi.rounded_rect_arc_size <= 0:
        return (low + high) / 2 + corner * size / 2
    # The diameter of the corners.
    arc = np.minimum(roi.rounded_rect_arc_size, size)
    # Quarters of an ellipse, from the corner at the top left on.
    quarter = np.linspace(0, np.pi / 2, VERTICES // 4)[:, None]
    angles = np.pi + quarter + np.arange(4) * np.pi / 2
    turn = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * arc / 2
    centres = (low + high) / 2 + corner * (size - arc) / 2
    return np.swapaxes(centres + turn, 0, 1).reshape(-1, 2)
