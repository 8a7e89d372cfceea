"""What a classical method goes through, so that each step can be looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from segjax.segmentation import Segmentation


@dataclasses.dataclass(frozen=True, eq=False)
class Stages:
    """The way of one image through a method.

    Attributes:
      features: maps [H, W] float by name, in the order in which they arise.
      foreground: [H, W] bool.
      seeds: [N, 2] float, `(y, x)` of what instances grow from, pixels.
      segmentation: the result.
    """

    features: Mapping[str, np.ndarray]
    foreground: np.ndarray
    seeds: np.ndarray
    segmentation: Segmentation

    @classmethod
    def nothing(cls, shape: tuple[int, int], features: Mapping[str, np.ndarray] | None = None) -> Stages:
        """The stages of an image `[H, W]` without any contrast."""
        return cls(features or {}, np.zeros(shape, bool), np.zeros((0, 2)), Segmentation.empty(shape))
