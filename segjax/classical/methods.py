"""Registry of the classical methods, and factories that create them from settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from segjax.classical.features import FEATURES
from segjax.classical.kmeans import kmeans
from segjax.classical.mean_shift import mean_shift
from segjax.classical.naive import naive
from segjax.classical.radius import radius
from segjax.classical.settings import KMeans, MeanShift, Naive, Radius, Watershed
from segjax.classical.stages import Stages
from segjax.classical.watershed import watershed
from segjax.errors import InputError, choose
from segjax.segmentation import Segmentation


class ClassicalMethod(NamedTuple):
    """A classical method.

    Attributes:
      stages: function of an image [H, W, C] and an instance of `settings`.
      settings: dataclass of the method's settings.
    """

    stages: Callable[[np.ndarray, Any], Stages]
    settings: type[Any]


METHODS: dict[str, ClassicalMethod] = {
    "naive": ClassicalMethod(naive, Naive),
    "radius": ClassicalMethod(radius, Radius),
    "mean_shift": ClassicalMethod(mean_shift, MeanShift),
    "kmeans": ClassicalMethod(kmeans, KMeans),
    "watershed": ClassicalMethod(watershed, Watershed),
}


@dataclasses.dataclass(frozen=True)
class ClassicalSegmenter:
    """A classical method with its settings: `image [H, W, C] -> Segmentation`."""

    method: ClassicalMethod
    settings: Any

    def __call__(self, image: np.ndarray) -> Segmentation:
        """Segments an image."""
        return self.stages(image).segmentation

    def stages(self, image: np.ndarray) -> Stages:
        """Applies the method, and also returns its intermediate results."""
        return self.method.stages(image, self.settings)

    def with_diameter(self, diameter: float | None) -> ClassicalSegmenter:
        """Returns the method for cells of a typical diameter in pixels; None estimates it for each image."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, diameter=diameter))


def make_method(name: str, **fields: Any) -> ClassicalSegmenter:
    """Makes a method.

    Args:
      name: a key of `METHODS`.
      **fields: fields of the method's settings.

    Raises:
      InputError: if the method or a field is unknown, or a setting is invalid.

    >>> image = np.zeros((64, 64, 1), np.uint8)
    >>> image[10:30, 10:30] = image[34:60, 34:60] = 200
    >>> make_method("watershed", min_area=5)(image).num_instances
    2
    """
    method = choose(METHODS, "method", name)
    known = [field.name for field in dataclasses.fields(method.settings)]
    for field in fields:
        if field not in known:
            raise InputError(f"method {name} has no parameter {field!r}: it has {', '.join(known)}")
    settings = method.settings(**fields)
    for feature in getattr(settings, "features", ()):
        choose(FEATURES, "features", feature)
    return ClassicalSegmenter(method, settings)
