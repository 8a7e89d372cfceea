"""The interface of a representation of instances, and the settings of its decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from segjax.settings import Count, Fraction, NonNegative, Positive, Settings
from segjax.typing import Array, Batch


@dataclasses.dataclass(frozen=True)
class DecoderConfig(Settings):
    """Settings that turn maps into instances, see also `segjax.experiment.decoder_fit`.

    Attributes:
      smoothing: standard deviation, in pixels, of the Gaussian that smooths the map that is flooded, and the
        probabilities of colours.
      h: minimum height of the maximum of an instance above the saddle to a higher maximum, for `distance` and
        `poisson`.
      threshold: minimum probability of boundary pixels, for `boundary`.
      steps: minimum number of steps of one pixel along the flow, for `flows`; pixels that are still on their
        way go on.
      density: minimum number of pixels that end at one pixel, after smoothing, at the centre of an instance,
        for `flows`.
    """

    smoothing: NonNegative = 1.0
    h: Positive = 0.1
    threshold: Fraction = 0.5
    steps: Count = 100
    density: NonNegative = 1.0


class Representation(Protocol):
    """A way to tell touching instances apart; all functions but `decode` and `encode` are jittable."""

    @property
    def channels(self) -> int:
        """Number of output channels; 0 if the classes are enough."""

    @property
    def vectors(self) -> bool:
        """Whether the channels are rows and columns of vectors, which change with the axes of the image."""

    @property
    def targets(self) -> frozenset[str]:
        """The optional keys of a batch that `loss` reads, see `segjax.typing.Batch`."""

    @property
    def grid(self) -> Mapping[str, Sequence[float]]:
        """For each field of `DecoderConfig` that a fit tries, the values."""

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Returns the loss [B, H, W] of the output channels [B, H, W, C]."""

    def activate(self, outputs: Array) -> Array:
        """Returns the map [B, H, W] or [B, H, W, C] that `decode` takes, from the output channels."""

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Returns the map of a perfect network, [H, W] or [H, W, C] float32, for labels [H, W] int32."""

    def decode(self, foreground: np.ndarray, values: np.ndarray, config: DecoderConfig) -> np.ndarray:
        """Separates the instances of a foreground.

        Args:
          foreground: [H, W] bool.
          values: the map, [H, W] or [H, W, C] float.
          config: the settings.

        Returns:
          [H, W] int32, 0 for background; ids may have gaps.
        """
