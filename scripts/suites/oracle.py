"""Ceilings of the representations of instances: the scores of a perfect network and of noisy ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage
from skimage.transform import resize
from tqdm import tqdm

from segjax.data.records import Source
from segjax.errors import InputError
from segjax.experiment.section_reading import read_section
from segjax.experiment.setup import open_split
from segjax.metrics.instance import InstanceStatistics
from segjax.representations import REPRESENTATIONS, DecoderConfig, Representation
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import remove_small

# Standard deviations in pixels: of the blur of the maps, and of the correlation of the noise.
BLUR, GRAIN = 1.5, 2.0
# Standard deviation of the noise relative to that of the map inside the instances.
NOISE = 0.3

# `(foreground [H, W] bool, map [H, W, C] float32, random numbers) -> both, degraded`.
Degrade = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class Ceiling(NamedTuple):
    """Mean scores of the images.

    Attributes:
      ap50: AP at IoU 0.5.
      ap90: AP at IoU 0.9.
      pq: panoptic quality.
    """

    ap50: float
    ap90: float
    pq: float


def main(config: ConfigDict, *, count: int) -> None:
    """Prints a table: a row for each representation, a column for each degradation.

    Args:
      config: a config of a segmenter. Its validation split, `task.decoder` and `task.min_area` are used.
      count: maximum number of images.
    """
    source = open_split(config, "validation")
    number = min(count, len(source))
    decoder = read_section(DecoderConfig, config.task.decoder, "config.task.decoder")
    print(f"perfect maps of {number} validation images of {config.dataset.name}: AP .5 / AP .9 / PQ\n")
    print("| representation | " + " | ".join(DEGRADATIONS) + " |")
    print("|---|" + "---|" * len(DEGRADATIONS))
    for name, representation in REPRESENTATIONS.items():
        cells = [
            " / ".join(f"{score:.3f}" for score in ceiling)
            for ceiling in ceilings(
                representation, source, number, decoder=decoder, min_area=min(config.task.min_area)
            ).values()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def ceilings(
    representation: Representation,
    source: Source,
    count: int,
    *,
    decoder: DecoderConfig = DecoderConfig(),
    min_area: int = 1,
) -> dict[str, Ceiling]:
    """Encodes the true instances of images, degrades the maps, decodes them and compares.

    Args:
      representation: the representation.
      source: images; only their annotations are used.
      count: number of images.
      decoder: settings of the decoder.
      min_area: minimum area in pixels of a decoded instance.

    Returns:
      The means over the images that have instances, for each of `DEGRADATIONS`.

    Raises:
      InputError: if no image has an instance.
    """
    scores: dict[str, list[tuple[float, float, float]]] = {name: [] for name in DEGRADATIONS}
    for index in tqdm(range(count), unit="image", leave=False):
        labels = source[index].truth.labels
        if not labels.any():
            continue
        truth = Segmentation.from_labels(labels)
        values = representation.encode(labels)
        planes = values if values.ndim == 3 else values[..., None]
        for name, degrade in DEGRADATIONS.items():
            foreground, degraded = degrade(labels > 0, planes, np.random.default_rng(index))
            decoded = representation.decode(foreground, degraded.reshape(values.shape), decoder)
            prediction = Segmentation.from_labels(remove_small(decoded, min_area))
            result = InstanceStatistics.of(truth, prediction).compute()
            scores[name].append((result.ap[0.5], result.ap[0.9], result.pq))
    if not all(scores.values()):
        raise InputError(
            f"none of the {count} images has an instance: give a config whose validation split has some, such"
            " as --config.dataset.validation=train"
        )
    return {name: Ceiling(*np.mean(rows, axis=0).tolist()) for name, rows in scores.items()}


def ideal(
    foreground: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Changes nothing."""
    del rng
    return foreground, values


def noisy(
    foreground: np.ndarray, values: np.ndarray, rng: np.random.Generator, *, strength: float = NOISE
) -> tuple[np.ndarray, np.ndarray]:
    """Blurs the map and adds correlated noise; the foreground stays perfect."""
    sigmas = (1, 1, 0)
    noise = ndimage.gaussian_filter(rng.normal(size=values.shape), np.multiply(GRAIN, sigmas))
    noise /= noise.std((0, 1)) + np.finfo(float).tiny
    spread = values[foreground].std(0)
    blurred = ndimage.gaussian_filter(values, np.multiply(BLUR, sigmas))
    return foreground, (blurred + strength * spread * noise).astype(np.float32)


def coarse(
    foreground: np.ndarray, values: np.ndarray, rng: np.random.Generator, *, stride: int
) -> tuple[np.ndarray, np.ndarray]:
    """Averages map and foreground over squares of `stride` pixels, and interpolates."""
    del rng
    planes = np.concatenate([foreground[..., None].astype(np.float32), values], axis=-1)
    height, width, channels = planes.shape
    padded = np.pad(planes, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // stride, padded.shape[1] // stride
    means = padded.reshape(rows, stride, columns, stride, channels).mean((1, 3))
    fine = resize(means, padded.shape, order=1, mode="edge", anti_aliasing=False)[:height, :width]
    return fine[..., 0] > 0.5, fine[..., 1:].astype(np.float32)


DEGRADATIONS: Mapping[str, Degrade] = {
    "ideal": ideal,
    f"noise {NOISE:g}": noisy,
    f"noise {2 * NOISE:g}": functools.partial(noisy, strength=2 * NOISE),
    "stride 2": functools.partial(coarse, stride=2),
    "stride 4": functools.partial(coarse, stride=4),
}
