"""Summary of one image for the checks of a data set: a few kilobytes instead of its pixels."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data.records import Record
from segjax.datasets.checks import fingerprints, pixels


@dataclasses.dataclass(frozen=True)
class Summary:
    """Statistics of one image of a data set.

    Attributes:
      name: as in `Record`.
      group: as in `Record`.
      split: split chosen by the user or assigned; None if there is none.
      shape: `(H, W)`.
      channels: C.
      dtype: `uint8`, `uint16` or `float32`.
      pixel_size: micrometres, None if unknown.
      areas: for each class that is present, the areas of its instances in pixels, ascending.
      smallest: for each class, the area of the smallest instance that does not touch the border.
      quantiles: intensities at `pixels.QUANTILES`.
      sharpness: see `pixels.sharpness`.
      clipped: see `pixels.clipped_fraction`, inside cells.
      pixel_digest: see `fingerprints.pixel_digest`.
      outline_digest: see `fingerprints.outline_digest`.
      perceptual: see `fingerprints.perceptual`, base64.
    """

    name: str
    group: str
    split: str | None
    shape: tuple[int, int]
    channels: int
    dtype: str
    pixel_size: float | None
    areas: Mapping[int, tuple[int, ...]]
    smallest: Mapping[int, int]
    quantiles: tuple[float, ...]
    sharpness: float | None
    clipped: float
    pixel_digest: str
    outline_digest: str
    perceptual: str

    @property
    def counts(self) -> dict[int, int]:
        """Number of instances by class that is present."""
        return {index: len(areas) for index, areas in self.areas.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-compatible dict."""
        return dataclasses.asdict(self) | {
            "areas": {str(index): list(areas) for index, areas in self.areas.items()},
            "smallest": {str(index): area for index, area in self.smallest.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Summary:
        """Inverse of `to_json`, after a round trip through JSON."""
        return cls(
            **{
                **value,
                "shape": tuple(value["shape"]),
                "areas": {int(index): tuple(areas) for index, areas in value["areas"].items()},
                "smallest": {int(index): area for index, area in value["smallest"].items()},
                "quantiles": tuple(value["quantiles"]),
            }
        )


def summarise(record: Record, *, split: str | None = None) -> Summary:
    """Summarises one image with its truth.

    Args:
      record: the image, with pixels that are finite.
      split: split chosen by the user, if any.
    """
    image, truth = record.image, record.truth
    measured = pixels.measure(image, truth.labels > 0)
    area = np.bincount(truth.labels.ravel(), minlength=truth.num_instances + 1)[1:]
    inner = np.ones(truth.num_instances + 1, bool)
    for side in (truth.labels[0], truth.labels[-1], truth.labels[:, 0], truth.labels[:, -1]):
        inner[side] = False
    present = [(int(index), truth.classes == index) for index in np.unique(truth.classes)]
    return Summary(
        name=record.name,
        group=record.group,
        split=split,
        shape=truth.shape,
        channels=image.shape[-1],
        dtype=image.dtype.name,
        pixel_size=record.pixel_size,
        areas={index: tuple(np.sort(area[selected]).tolist()) for index, selected in present},
        smallest={
            index: int(area[selected & inner[1:]].min())
            for index, selected in present
            if (selected & inner[1:]).any()
        },
        quantiles=measured.quantiles,
        sharpness=measured.sharpness,
        clipped=measured.clipped,
        pixel_digest=fingerprints.pixel_digest(image),
        outline_digest=fingerprints.outline_digest(truth.labels),
        perceptual=base64.b64encode(fingerprints.perceptual(image).tobytes()).decode(),
    )


def perceptual_of(summaries: Sequence[Summary]) -> np.ndarray:
    """Returns the perceptual fingerprints of all summaries, [N, ORDER, ORDER] int8."""
    joined = b"".join(base64.b64decode(summary.perceptual) for summary in summaries)
    order = fingerprints.ORDER
    return np.frombuffer(joined, np.int8).reshape(len(summaries), order, order)
