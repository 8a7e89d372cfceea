"""Intermediate results of a classical method, for inspection."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from segjax.segmentation import Segmentation


@dataclasses.dataclass(frozen=True, eq=False)
class Stages:
    """Intermediate results and segmentation of one image.

    Attributes:
      features: maps [H, W] float by name, in order of computation.
      foreground: [H, W] bool.
      seeds: [N, 2] float, `(y, x)` positions of the seeds that instances grow from, pixels.
      segmentation: the final segmentation.
    """

    features: Mapping[str, np.ndarray]
    foreground: np.ndarray
    seeds: np.ndarray
    segmentation: Segmentation

    @classmethod
    def nothing(cls, shape: tuple[int, int]) -> Stages:
        """Returns empty stages for an [H, W] image without contrast."""
        return cls({}, np.zeros(shape, bool), np.zeros((0, 2)), Segmentation.empty(shape))
