"""Sliders for the settings of a decoder, on the page of `segjax serve` and on an exported page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Slider(NamedTuple):
    """A setting that the page shows as a slider.

    Attributes:
      name: its path among the settings of the method.
      label: its text on the page.
      low: smallest value.
      high: largest value.
      step: distance between two values.
      value: the value of the method.
    """

    name: str
    label: str
    low: float
    high: float
    step: float
    value: float


class Bounds(NamedTuple):
    """Label and range of a slider, and its position if the setting is None."""

    label: str
    low: float
    high: float
    step: float
    default: float = 0.5


NETWORK_SLIDERS = {
    "foreground_threshold": Bounds("Foreground threshold", 0.05, 0.95, 0.05),
    "decoder.h": Bounds("Height of peaks", 0.02, 1, 0.02),
    "decoder.smoothing": Bounds("Smoothing, px", 0, 6, 0.25),
    "decoder.threshold": Bounds("Boundary threshold", 0.05, 0.95, 0.05),
    "decoder.density": Bounds("Density of a centre", 0, 8, 0.25),
    "detect.score_threshold": Bounds("Score threshold", 0.05, 0.95, 0.05),
    "mask_threshold": Bounds("Mask threshold", 0.05, 0.95, 0.05),
    "min_area": Bounds("Smallest cell, px", 0, 500, 5),
}


def make_sliders(bounds: Mapping[str, Bounds], settings: Mapping[str, Any]) -> list[Slider]:
    """Returns a slider for each setting that has bounds, at its value."""
    return [
        Slider(name, *bound[:4], _number(settings[name], bound.default))
        for name, bound in bounds.items()
        if name in settings
    ]


def _number(value: Any, default: float) -> float:
    """Returns the position of a slider: the value, the first of several, or the default for None."""
    if isinstance(value, tuple):
        value = value[0]
    return default if value is None else float(value)
