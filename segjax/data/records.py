"""Annotated images: the record and the protocol of a data source."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from segjax.segmentation import Segmentation

IMAGE_DTYPES = (np.uint8, np.uint16, np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One image with its annotation, neither normalised nor resized.

    Attributes:
      name: unique within its data set, and valid as a file name.
      group: patient, acquisition or similar, unique among all data sets. Images of one group never end up in
        different splits.
      image: [H, W, C] uint8, uint16 or float32.
      truth: the annotation, [H, W].
      pixel_size: side of a pixel in micrometres, None if unknown.

    Raises:
      ValueError: if the image has an unsupported type or rank, or differs from the truth in size.
    """

    name: str
    group: str
    image: np.ndarray
    truth: Segmentation
    pixel_size: float | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.dtype not in IMAGE_DTYPES:
            raise ValueError(
                f"{self.name}: an image is [H, W, C] of uint8, uint16 or float32, not {self.image.dtype} of"
                f" shape {self.image.shape}"
            )
        if self.image.shape[:2] != self.truth.shape:
            raise ValueError(
                f"{self.name}: the image is {self.image.shape[:2]} but its truth {self.truth.shape}; export"
                " the mask again from the image it was drawn on"
            )


class Source(Protocol):
    """Random access to the records of one split of a data set.

    Attributes:
      class_names: names of class 0 (background), 1, ...
    """

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...
