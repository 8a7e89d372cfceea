"""Methods in two parts: a slow one, whose outputs are stored, and a fast one, which has the settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from segjax.classical import ClassicalSegmenter
from segjax.errors import InputError
from segjax.experiment.decoder_fit import grid, with_settings
from segjax.experiment.methods import OpenedMethod, with_diameter
from segjax.inference.dense import DensePredictor
from segjax.inference.objects import ObjectPredictor
from segjax.segmentation import Segmentation
from segjax.segmentation.resize import resize_segmentation


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
    "decoder.h": Bounds("Height of peaks", 0, 1, 0.02),
    "decoder.smoothing": Bounds("Smoothing, px", 0, 6, 0.25),
    "decoder.threshold": Bounds("Boundary threshold", 0.05, 0.95, 0.05),
    "decoder.density": Bounds("Density of a centre", 0, 8, 0.25),
    "detect.score_threshold": Bounds("Score threshold", 0.05, 0.95, 0.05),
    "mask_threshold": Bounds("Mask threshold", 0.05, 0.95, 0.05),
    "min_area": Bounds("Smallest cell, px", 0, 500, 5),
}
CLASSICAL_SLIDERS = {
    "threshold_fraction": Bounds("Threshold, fraction of Otsu's", 0, 2, 0.05),
    "gamma": Bounds("Gamma", 0.2, 2, 0.1),
    "h": Bounds("Height of peaks, px", 0, 4, 0.1),
    "smoothing": Bounds("Smoothing, px", 0, 6, 0.25),
    "min_area": Bounds("Smallest cell, px", 0, 500, 5),
}


class ServedMethod:
    """A method with sliders for its settings.

    Args:
      name: its name on the page.
      opened: the method.

    Attributes:
      name: its name on the page.
      opened: the method.
      sliders: its settings.
      has_diameter: whether it takes the diameter of the cells.
    """

    def __init__(self, name: str, opened: OpenedMethod) -> None:
        self.name, self.opened = name, opened
        method = opened.method
        bounds = CLASSICAL_SLIDERS if isinstance(method, ClassicalSegmenter) else NETWORK_SLIDERS
        settings = _settings(method)
        self.sliders = [
            Slider(name, *bound[:4], _number(settings[name], bound.default))
            for name, bound in bounds.items()
            if name in settings
        ]
        self.has_diameter = isinstance(method, ClassicalSegmenter) or (
            isinstance(method, DensePredictor) and method.config.trained_diameter is not None
        )

    def prepare(self, image: np.ndarray, diameter: float) -> Callable[[Mapping[str, float]], Segmentation]:
        """Runs the part that no slider changes.

        Args:
          image: [H, W, C] with the channels that the method expects.
          diameter: diameter of the cells, pixels; 0 to estimate it.

        Returns:
          A function from the values of moved sliders to the segmentation of the image.

        Raises:
          InputError: if the method takes no diameter.
        """
        decode = _prepare(with_diameter(self.opened, diameter) if diameter else self.opened, image)
        return lambda values: decode(self._checked(values))

    def _checked(self, values: Mapping[str, float]) -> dict[str, Any]:
        """Returns values of sliders with the types of the settings."""
        settings = _settings(self.opened.method)
        checked: dict[str, Any] = {}
        known = [slider.name for slider in self.sliders]
        for name, value in values.items():
            if name not in known:
                raise InputError(f"{self.name} has no setting {name!r}: choose among {', '.join(known)}")
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value):
                raise InputError(f"{name} is {value!r}: give a number")
            old = settings[name]
            if isinstance(old, tuple):
                checked[name] = (round(value),) * len(old)
            else:
                checked[name] = round(value) if isinstance(old, int) else float(value)
        return checked


def _prepare(opened: OpenedMethod, image: np.ndarray) -> Callable[[Mapping[str, Any]], Segmentation]:
    """Returns a function from changed settings to the segmentation; a network runs only here."""
    method = opened.method
    if isinstance(method, DensePredictor):
        task, maps = method.task, method.predict_maps(image)
        return lambda settings: resize_segmentation(
            with_settings(task, settings).segment(maps), image.shape[:2]
        )
    if isinstance(method, ObjectPredictor):
        # Includes the objects that a lower threshold would add.
        own = method.task.config.detect.score_threshold
        lowest = min(NETWORK_SLIDERS["detect.score_threshold"].low, own)
        candidates = with_settings(method.task, {"detect.score_threshold": lowest})
        detections = dataclasses.replace(method, task=candidates).detect(image)
        return lambda settings: with_settings(method.task, settings).segment(detections)
    if isinstance(method, ClassicalSegmenter):
        return lambda settings: dataclasses.replace(
            method, settings=dataclasses.replace(method.settings, **settings)
        )(image)
    return lambda _: method(image)


def _settings(method: Any) -> dict[str, Any]:
    """Returns the settings that sliders may move, by their path."""
    if isinstance(method, ClassicalSegmenter):
        return {
            field.name: getattr(method.settings, field.name) for field in dataclasses.fields(method.settings)
        }
    if not isinstance(method, DensePredictor | ObjectPredictor):
        return {}
    values: dict[str, Any] = {}
    for name in grid(method.task):
        value: Any = method.task.config  # type: ignore[union-attr]
        for part in name.split("."):
            value = getattr(value, part)
        values[name] = value
    return values


def _number(value: Any, default: float) -> float:
    """Returns the position of a slider: the value, the first of several, or the default for None."""
    if isinstance(value, tuple):
        value = value[0]
    return default if value is None else float(value)
