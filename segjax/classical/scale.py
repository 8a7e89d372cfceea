"""Scales the settings of classical methods to the diameter of the cells of an image."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np
from scipy import ndimage

from segjax.classical.contrast import otsu_threshold
from segjax.classical.settings import REFERENCE_DIAMETER, Foreground
from segjax.segmentation.masks import weighted_median
from segjax.segmentation.split_touching import background_distance, fill_holes

S = TypeVar("S", bound=Foreground)

# The exponent of the diameter for each setting: 1 for lengths, 2 for areas.
EXPONENTS = {
    **dict.fromkeys(("sigma", "smoothing", "h", "window", "min_radius", "merge"), 1),
    **dict.fromkeys(("max_hole", "min_area", "min_core"), 2),
}
# The smallest and the largest factor.
FACTORS = (0.25, 4.0)
# Estimate: exponent and blur of the contrast, the largest hole to fill and the smallest circle, in pixels.
GAMMA, SIGMA, MAX_HOLE, MIN_RADIUS = 0.7, 0.5, 100, 1.5
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
    values: dict[str, Any] = {
        field.name: _scaled(getattr(settings, field.name), factor ** EXPONENTS[field.name])
        for field in dataclasses.fields(settings)
        if field.name in EXPONENTS
    }
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
    foreground = otsu_threshold(ndimage.gaussian_filter(intensity, SIGMA) ** GAMMA, 0, 1.0)
    foreground = fill_holes(foreground, MAX_HOLE)
    distance = ndimage.gaussian_filter(background_distance(foreground), 1.0) * foreground
    is_centre = (ndimage.maximum_filter(distance, 3) == distance) & (distance >= MIN_RADIUS)
    radii = distance[is_centre]
    return 2 * RATIO * weighted_median(radii, radii**2) or REFERENCE_DIAMETER


def _scaled(value: float, factor: float) -> float:
    return max(round(value * factor), min(value, 1)) if isinstance(value, int) else value * factor
