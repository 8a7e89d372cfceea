"""Scales the settings of classical methods to the diameter of the cells of an image."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np

from segjax.classical.contrast import otsu_foreground
from segjax.classical.settings import REFERENCE_DIAMETER, Foreground
from segjax.classical.splitting import circle_centres, smooth_distance
from segjax.segmentation.masks import weighted_median

S = TypeVar("S", bound=Foreground)

# The exponent of the diameter for each setting: 1 for lengths, 2 for areas.
EXPONENTS = {
    **dict.fromkeys(("sigma", "smoothing", "h", "window", "min_radius", "merge"), 1),
    **dict.fromkeys(("max_hole", "min_area", "min_core"), 2),
}
# The smallest and the largest factor.
FACTORS = (0.25, 4.0)
# Settings of the estimate; blurs of the contrast and of the distance map, and the smallest circle, in pixels.
FOREGROUND = Foreground(gamma=0.7, max_hole=100)
SIGMA, SMOOTHING, MIN_RADIUS = 0.5, 1.0, 1.5
# Diameter of a cell by that of its inscribed circles, the median of BBBC038.
RATIO = 1.14


def at_scale(settings: S, intensity: np.ndarray) -> S:
    """Returns the settings for the cells of one image.

    Lengths are multiplied by the ratio of the typical diameter to `REFERENCE_DIAMETER`, areas by its square.

    Args:
      settings: `diameter` is used, or estimated if it is None.
      intensity: [H, W] float in 0..1, cells bright.
    """
    diameter = settings.diameter or estimate_diameter(intensity)
    factor = float(np.clip(diameter / REFERENCE_DIAMETER, *FACTORS))
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        if field.name in EXPONENTS:
            value, scale = getattr(settings, field.name), factor ** EXPONENTS[field.name]
            # Numbers of pixels stay integers, and do not become 0.
            is_whole = isinstance(field.default, int)
            values[field.name] = max(round(value * scale), min(value, 1)) if is_whole else value * scale
    return dataclasses.replace(settings, **values)


def estimate_diameter(intensity: np.ndarray) -> float:
    """Estimates the typical diameter of the cells of an image, pixels.

    The foreground of Otsu's threshold is filled with inscribed circles, the local maxima of its distance map.
    The median of their radii is weighted by area, so that debris hardly affects it.

    Args:
      intensity: [H, W] float in 0..1, cells bright.

    Returns:
      The diameter; `REFERENCE_DIAMETER` if there is no circle.

    >>> y, x = np.mgrid[:64, :64]
    >>> disc = (x - 32) ** 2 + (y - 32) ** 2 < 14**2
    >>> 24 < estimate_diameter(disc.astype(np.float32)) < 33
    True
    """
    foreground = otsu_foreground(intensity, FOREGROUND, sigma=SIGMA)
    distance = smooth_distance(foreground, SMOOTHING)
    radii = distance[circle_centres(distance, min_radius=MIN_RADIUS)]
    return 2 * RATIO * weighted_median(radii, radii**2) or REFERENCE_DIAMETER
