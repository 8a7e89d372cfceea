"""Settings of prediction."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from segjax.errors import InputError
from segjax.settings import Count, NonNegativeInt, Positive, Range, Settings


@dataclasses.dataclass(frozen=True)
class PredictConfig(Settings):
    """Settings of `create_predictor`.

    Attributes:
      tile: side of the windows of larger images, in pixels of the network's input. Networks whose outputs
        depend on many pixels get larger windows, see `segjax.inference.tiling.Windows`.
      overlap: overlap of neighbouring windows, in the same pixels; larger for such networks.
      flips: whether to average the maps over the image and its three mirror images.
      diameter: typical diameter of the instances of the images, in pixels. Images are scaled such that it
        becomes `trained_diameter`; with 0 it is estimated for each image.
      trained_diameter: typical diameter of the instances in training patches; None does not scale images.
      trained_patch: side of the training patches, in pixels; 0 if unknown. Windows are at least as large if
        the maps depend on them, as with the norm `group`.

    Raises:
      InputError: if a tile, its overlap or a diameter is out of range, or there is a diameter, but none that
        images are scaled to.
    """

    tile: Count = 512
    overlap: NonNegativeInt = 64
    flips: bool = False
    diameter: Annotated[float, Range(0, 10_000, below=True)] = 0.0
    trained_diameter: Positive | None = None
    trained_patch: NonNegativeInt = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap >= self.tile:
            raise InputError(f"overlap is {self.overlap}; it must be below tile={self.tile}", field="overlap")
        if self.diameter and self.trained_diameter is None:
            raise InputError(
                f"diameter is {self.diameter:g}, but the network was trained without data.diameter, so that"
                " images are not scaled: leave it at 0",
                field="diameter",
            )
