"""A map with one peak per instance, flooded from its h-maxima."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from segjax.data.targets import TARGETS
from segjax.losses.pixel import smooth_l1
from segjax.representations.base import DecoderConfig
from segjax.segmentation.split_touching import split_touching
from segjax.typing import Array, Batch


@dataclasses.dataclass(frozen=True)
class Height:
    """A scalar target with the maximum 1 in each instance; see `Representation`.

    Attributes:
      target: `distance`, the distance to the boundary, or `poisson`, the solution of Poisson's equation.
    """

    target: str

    channels = 1
    vectors = False
    grid: ClassVar[Mapping[str, Sequence[float]]] = MappingProxyType(
        {"smoothing": (0.0, 0.5, 1.0, 2.0, 3.0), "h": (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)}
    )

    @property
    def targets(self) -> frozenset[str]:
        """The target."""
        return frozenset({self.target})

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Returns the smooth L1 distance [B, H, W] to the target."""
        targets: Array = batch[self.target]  # type: ignore[literal-required]
        return smooth_l1(outputs[..., 0], targets, beta=0.1)

    def activate(self, outputs: Array) -> Array:
        """Returns the only channel, [B, H, W]."""
        return outputs[..., 0]

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Returns the target [H, W] float32."""
        return TARGETS[self.target](labels)

    def decode(self, foreground: np.ndarray, values: np.ndarray, config: DecoderConfig) -> np.ndarray:
        """Floods the map from its h-maxima, [H, W] int32."""
        return split_touching(foreground, values, smoothing=config.smoothing, h=config.h, min_area=1)
