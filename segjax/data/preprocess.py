"""Preprocessing of images and annotations for training and prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np
from skimage.transform import resize

from segjax.data.records import Record
from segjax.data.stain import normalise_stain
from segjax.data.targets import TARGETS
from segjax.errors import InputError
from segjax.segmentation.masks import typical_diameter
from segjax.segmentation.resize import resize_label_map
from segjax.typing import IGNORE

# The smallest and the largest factor by which images are scaled to a common diameter of their instances.
DIAMETER_SCALES = (0.25, 4.0)
# Number of values that are normalised at a time.
BLOCK = 2**20


def percentile_normalise(image: np.ndarray, *, low: float = 1.0, high: float = 99.8) -> np.ndarray:
    """Maps two percentiles of each channel to 0 and 1, which removes exposure and bit depth.

    The result is `(x - p_low) / (p_high - p_low)`, not clipped. If the two percentiles are equal, as in an
    image that is nearly all background, minimum and maximum replace them. A constant channel becomes 0.

    Args:
      image: [H, W, C] of any real type, finite.
      low: percentile mapped to 0.
      high: percentile mapped to 1.

    Returns:
      [H, W, C] float32.

    References:
      The normalisation of StarDist and CSBDeep (https://arxiv.org/abs/1806.03535).
    """
    # Percentiles are float64, so even the difference of two extreme floats does not overflow.
    bottom, top = np.percentile(image, [low, high], axis=(0, 1))
    flat = top <= bottom
    bottom = np.where(flat, image.min(axis=(0, 1)), bottom)
    top = np.where(flat, image.max(axis=(0, 1)), top)
    spread = np.where(top > bottom, top - bottom, 1)
    # In parts, because the intermediate results are float64.
    result = np.empty(image.shape, np.float32)
    rows = max(1, BLOCK // max(1, result[:1].size))
    for start in range(0, len(image), rows):
        result[start : start + rows] = (image[start : start + rows] - bottom) / spread
    return result


def factor_to_diameter(labels: np.ndarray, diameter: float) -> float:
    """Returns the factor by which the sides of an image are scaled to a typical diameter of its instances.

    The factor is within `DIAMETER_SCALES`; without an instance it is 1.

    >>> round(factor_to_diameter(np.ones((20, 20), int), 45.14), 2)
    2.0
    """
    factor = np.nan_to_num(diameter / typical_diameter(labels), nan=1.0)
    return float(np.clip(factor, *DIAMETER_SCALES))


def resize_image(image: np.ndarray, factor: float) -> np.ndarray:
    """Resizes by linear interpolation, with anti-aliasing when shrinking.

    Args:
      image: [H, W, C] float32.
      factor: scale factor of each side; 0.5 gives a quarter of the pixels.

    Returns:
      [round(factor * H), round(factor * W), C] float32, at least one pixel.
    """
    if factor == 1:
        return image
    shape = (*resized_shape(image.shape[:2], factor), image.shape[2])
    return resize(image, shape, order=1, mode="reflect", anti_aliasing=factor < 1).astype(np.float32)


def resize_labels(labels: np.ndarray, factor: float) -> np.ndarray:
    """Resizes a label or class map as in `resize_label_map`; small instances may disappear.

    Args:
      labels: [H, W] int32.
      factor: scale factor of each side; pixel centres are those of `resize_image`.

    Returns:
      [round(factor * H), round(factor * W)] int32, at least one pixel.
    """
    height, width = resized_shape(labels.shape, factor)
    return labels if factor == 1 else resize_label_map(labels, (height, width))


def preprocess_image(
    image: np.ndarray,
    *,
    scale: float = 1.0,
    percentiles: tuple[float, float] = (1.0, 99.8),
    stain: str | None = None,
) -> np.ndarray:
    """Normalises and resizes an image; the same for training and for prediction.

    Args:
      image: [H, W, C] uint8, uint16 or float32.
      scale: scale factor of each side, as in `resize_image`.
      percentiles: low and high, as in `percentile_normalise`.
      stain: stain normalisation method, applied first, as in `normalise_stain`.

    Returns:
      [round(scale * H), round(scale * W), C] float32.

    Raises:
      InputError: if the scale is not between 0 and 16, the percentiles are not in order, or the
        stain method is unknown.
    """
    if not 0 < scale <= 16:
        raise InputError(
            f"scale is {scale}; it must be above 0 and at most 16, 1 for no change", field="scale"
        )
    check_percentiles(percentiles)
    low, high = percentiles
    normalised = percentile_normalise(normalise_stain(image, stain), low=low, high=high)
    return resize_image(normalised, scale)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Makes the input of a network from an image as it was read, by the arguments of `preprocess_image`."""

    scale: float = 1.0
    percentiles: tuple[float, float] = (1.0, 99.8)
    stain: str | None = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns [h, w, C] float32 of an image [H, W, C]."""
        return preprocess_image(image, scale=self.scale, percentiles=self.percentiles, stain=self.stain)


def check_percentiles(percentiles: tuple[float, float]) -> None:
    """Raises `InputError` if two percentiles are not in order."""
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise InputError(
            f"percentiles is {percentiles}; it must increase, from at least 0 to at most 100",
            field="percentiles",
        )


def preprocess_example(
    record: Record,
    *,
    num_classes: int,
    targets: Collection[str] = ("distance",),
    **preprocessing: Any,
) -> dict[str, np.ndarray]:
    """Converts a record to training arrays.

    Args:
      record: as stored.
      num_classes: number of classes, including the background.
      targets: optional keys to compute, as far as they are in `segjax.data.targets.TARGETS`.
      **preprocessing: arguments of `preprocess_image`.

    Returns:
      "image", "labels", "semantic" and the targets, as in `segjax.typing.Batch` without B.
      "labels" has the ids of the record.

    Raises:
      InputError: if the record has a class that the data set does not name, or a setting is invalid.
    """
    truth = record.truth
    present = [*np.unique(truth.semantic), *np.unique(truth.classes)]
    if unnamed := [int(value) for value in present if value != IGNORE and not 0 <= value < num_classes]:
        raise InputError(
            f"{record.name} has class {unnamed[0]}, but the data set has the classes 0 to"
            f" {num_classes - 1}: name all classes in the data set, or correct the annotation"
        )
    scale = preprocessing.get("scale", 1.0)
    image = preprocess_image(record.image, **preprocessing)
    labels = resize_labels(truth.labels, scale)
    example = {"image": image, "labels": labels, "semantic": resize_labels(truth.semantic, scale)}
    return example | {name: TARGETS[name](labels) for name in TARGETS if name in targets}


def resized_shape(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    """Returns the shape of an image `(H, W)` after `resize_image`."""
    height, width = (max(1, round(factor * size)) for size in shape)
    return height, width
