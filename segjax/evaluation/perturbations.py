"""Perturbed images with the same cells, to measure the robustness of methods."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.transform import resize

from segjax.data.records import Record, Source
from segjax.segmentation import Segmentation
from segjax.segmentation.resize import resize_segmentation

# Strengths are fractions of the range between the 0.1st and the 99.9th percentile of an image.
NOISE, PHOTONS, BLUR, EXPOSURE, JPEG_QUALITY = 0.1, 50.0, 1.5, 0.5, 30

# `(rng, image [H, W, C] float32 with the range 0 to 1) -> image` of the same shape.
Change = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def _noise(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    return image + rng.normal(0, NOISE, image.shape)


def _poisson(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    return rng.poisson(np.clip(image, 0, None) * PHOTONS) / PHOTONS


def _blur(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    del rng
    return ndimage.gaussian_filter(image, (BLUR, BLUR, 0))


def _inversion(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    del rng
    return 1 - image


def _exposure(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Halves the brightness and saturates a gamma curve of 0.5, as a wrong exposure does."""
    del rng
    return EXPOSURE * np.clip(image, 0, 1) ** 0.5


def _jpeg(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Compresses a picture of three channels; the channels of others one by one."""
    del rng
    pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    if image.shape[-1] == 3:
        return _compressed(pixels)
    return np.stack([_compressed(plane) for plane in np.moveaxis(pixels, -1, 0)], axis=-1)


def _compressed(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer), np.float32) / 255


CHANGES: dict[str, Change] = {
    "noise": _noise,
    "poisson": _poisson,
    "blur": _blur,
    "inversion": _inversion,
    "exposure": _exposure,
    "jpeg": _jpeg,
}
SCALES = {"half_size": 0.5, "double_size": 2.0}
# All perturbations; "clean" changes nothing.
PERTURBATIONS = ("clean", *CHANGES, *SCALES, "quarter_turn")


def perturb(record: Record, name: str, *, seed: int = 0) -> Record:
    """Perturbs an image, and its truth if pixels move.

    Args:
      record: the image.
      name: one of `PERTURBATIONS`.
      seed: random seed; the noise of an image depends on it and on the name of the record.

    Returns:
      The record with a float32 image; "clean" returns it unchanged.
    """
    if name == "clean":
        return record
    image = record.image.astype(np.float32)
    if name == "quarter_turn":
        truth = record.truth
        turned = Segmentation(np.rot90(truth.labels), truth.classes, truth.scores, np.rot90(truth.semantic))
        return dataclasses.replace(record, image=np.rot90(image), truth=turned)
    if name in SCALES:
        shape = tuple(max(1, round(SCALES[name] * side)) for side in image.shape[:2])
        scaled = resize(image, (*shape, image.shape[-1]), order=1, anti_aliasing=SCALES[name] < 1)
        truth = resize_segmentation(record.truth, (shape[0], shape[1]))
        return dataclasses.replace(record, image=scaled.astype(np.float32), truth=truth)
    low, high = np.percentile(image, (0.1, 99.9))
    spread = max(high - low, 1e-6)
    rng = np.random.default_rng([seed, *record.name.encode()])
    changed = CHANGES[name](rng, (image - low) / spread)
    return dataclasses.replace(record, image=(low + spread * changed).astype(np.float32))


class PerturbedSource:
    """The records of a source, each perturbed in the same way; see `perturb`."""

    def __init__(self, source: Source, name: str, *, seed: int = 0) -> None:
        self.class_names = source.class_names
        self._source, self._name, self._seed = source, name, seed

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        return perturb(self._source[index], self._name, seed=self._seed)
