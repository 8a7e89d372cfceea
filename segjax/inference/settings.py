"""Settings of prediction."""

from __future__ import annotations

import dataclasses

from segjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class PredictConfig:
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
      InputError: if a tile, its overlap or a diameter is out of range.
    """

    tile: int = 512
    overlap: int = 64
    flips: bool = False
    diameter: float = 0.0
    trained_diameter: float | None = None
    trained_patch: int = 0

    def __post_init__(self) -> None:
        if not self.tile > 0:
            raise InputError(f"tile={self.tile} must be above 0: give pixels, such as 512", field="tile")
        if not 0 <= self.overlap < self.tile:
            raise InputError(
                f"overlap={self.overlap} must be at least 0 and below tile={self.tile}", field="overlap"
            )
        if not 0 <= self.diameter < 10_000:
            raise InputError(
                f"diameter is {self.diameter}: give pixels above 0, or 0 to estimate it", field="diameter"
            )
        if self.trained_diameter is not None and not self.trained_diameter > 0:
            raise InputError("trained_diameter must be above 0", field="trained_diameter")
