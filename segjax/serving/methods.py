"""Methods in two parts: a slow one, whose outputs are stored, and a fast one, which has the settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from segjax.classical import ClassicalSegmenter
from segjax.errors import InputError
from segjax.experiment.decoder_fit import decoder_settings, with_settings
from segjax.experiment.methods import OpenedMethod, with_diameter
from segjax.experiment.sliders import NETWORK_SLIDERS, Bounds, make_sliders
from segjax.inference.dense import DensePredictor
from segjax.inference.objects import ObjectPredictor
from segjax.segmentation import Segmentation
from segjax.segmentation.resize import resize_segmentation
from segjax.settings import broken_rule

CLASSICAL_SLIDERS = {
    "threshold_fraction": Bounds("Threshold, fraction of Otsu's", 0, 2, 0.05),
    "gamma": Bounds("Gamma", 0.2, 2, 0.1),
    "h": Bounds("Height of peaks, px", 0.1, 4, 0.1),
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
        self.sliders = make_sliders(bounds, _settings(method))
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
            if broken_rule(value, float) is not None:
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
    return decoder_settings(method.task)
