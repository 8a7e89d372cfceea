"""The intensities of a large image, by which all of its tiles are normalised in the same way."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from segjax.data.preprocess import Preprocessing
from segjax.data.readers.lazy import Level
from segjax.data.stain import normalise_stain
from segjax.errors import InputError
from segjax.inference.large.grid import Box
from segjax.inference.ordered import in_order

# Largest number of pixels that are counted, and of those that are stored as a sample.
MAX_COUNTED, MAX_SAMPLE = 2**30, 2**22


@dataclasses.dataclass(frozen=True, eq=False)
class Intensities:
    """The numbers by which all tiles of an image are normalised.

    Attributes:
      bottom: [C] the intensity that becomes 0.
      top: [C] the intensity that becomes 1.
      lowest: [C] smallest intensity.
      highest: [C] largest intensity.
      sample: [P, C] pixels that determine the stains; None if stains are not normalised.
      stain: method of the stain normalisation.
    """

    bottom: np.ndarray
    top: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    sample: np.ndarray | None = None
    stain: str | None = None

    def normalise(self, window: np.ndarray) -> np.ndarray:
        """Normalises a window [h, w, C] as `preprocess_image` normalises the full image; returns float32."""
        if self.stain is not None:
            window = normalise_stain(window, self.stain, sample=self.sample)
        spread = np.where(self.top > self.bottom, self.top - self.bottom, 1)
        return ((window - self.bottom) / spread).astype(np.float32)


class Prepared:
    """A level whose windows are normalised, see `Level`."""

    dtype = np.dtype(np.float32)

    def __init__(self, level: Level, intensities: Intensities) -> None:
        self._level, self._intensities = level, intensities
        self.shape = level.shape

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window, see `Level`."""
        return self._intensities.normalise(self._level.read(top, left, height, width))


def measure_intensities(level: Level, boxes: Sequence[Box], settings: Preprocessing) -> Intensities:
    """Measures the intensities of parts of an image.

    Percentiles of integers are exact up to `MAX_COUNTED` pixels; of more pixels, only every n-th box is read.
    Percentiles of floats are those of a sample of the pixels.

    Args:
      level: the image.
      boxes: parts of the image, which do not overlap.
      settings: percentiles and stain normalisation.

    Raises:
      InputError: if there is no box, or none can be read.
    """
    if not boxes:
        raise InputError(
            "--region holds no pixel of the image that is segmented: give a larger one, or a finer resolution"
        )
    count = sum(height * width for height, width in (box.shape for box in boxes))
    boxes = boxes[:: -(-count // MAX_COUNTED)]
    is_counted = level.dtype.kind == "u" and settings.stain is None
    step = int(np.ceil(np.sqrt(count / MAX_SAMPLE)))
    counts = np.zeros((level.shape[2], 2**16), np.int64)
    samples, lowest, highest = [], [], []
    for pixels in _read(level, boxes):
        lowest.append(pixels.min(axis=0))
        highest.append(pixels.max(axis=0))
        if is_counted:
            for channel, column in enumerate(pixels.T):
                number = np.bincount(column)
                counts[channel, : len(number)] += number
        else:
            # A copy, as a view would keep all pixels of the box.
            samples.append(pixels[:: step * step].copy())
    limits = np.min(lowest, axis=0).astype(np.float64), np.max(highest, axis=0).astype(np.float64)
    if is_counted:
        bounds = np.array([[_percentile(one, q) for one in counts] for q in settings.percentiles])
        return _without_flat(bounds, *limits)
    sample = np.concatenate(samples)
    known = None if settings.stain is None else sample[:: -(-len(sample) // 2**18)]
    stained = normalise_stain(sample[:, None], settings.stain, sample=known)[:, 0]
    bounds = np.percentile(stained, settings.percentiles, axis=0)
    if settings.stain is not None:
        normalised = _without_flat(bounds, stained.min(axis=0), stained.max(axis=0))
        return dataclasses.replace(
            normalised, lowest=limits[0], highest=limits[1], sample=known, stain=settings.stain
        )
    return _without_flat(bounds, *limits)


def _read(level: Level, boxes: Sequence[Box]) -> Iterator[np.ndarray]:
    """Yields the pixels [P, C] of each box that can be read; the tile of a damaged one fails later.

    Raises:
      InputError: if no box can be read.
    """
    first: InputError | None = None
    any_read = False

    def read(box: Box) -> np.ndarray | InputError:
        try:
            return level.read(box.top, box.left, *box.shape).reshape(-1, level.shape[2])
        except InputError as error:
            return error

    for pixels in in_order(functools.partial(read, box) for box in boxes):
        if isinstance(pixels, InputError):
            first = first or pixels
        else:
            any_read = True
            yield pixels
    if first is not None and not any_read:
        raise first


def _without_flat(bounds: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> Intensities:
    """Replaces equal percentiles by minimum and maximum, as `percentile_normalise` does."""
    bottom, top = bounds
    flat = top <= bottom
    return Intensities(np.where(flat, lowest, bottom), np.where(flat, highest, top), lowest, highest)


def _percentile(counts: np.ndarray, percentage: float) -> float:
    """Returns a percentile of integers from the number of each, as `numpy.percentile` does."""
    ends = np.cumsum(counts)
    position = percentage / 100 * (ends[-1] - 1)
    low, high = (
        int(np.searchsorted(ends, int(rank), side="right")) for rank in (position, np.ceil(position))
    )
    return low + (high - low) * (position - int(position))
