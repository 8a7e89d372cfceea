"""Synthetic images of cells with exact labels, for tests, first steps and timing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import ndimage
from skimage.draw import ellipse

from segjax.data.records import Record
from segjax.datasets.sources import split_slices
from segjax.errors import InputError
from segjax.segmentation import Segmentation


@dataclasses.dataclass(frozen=True)
class Kind:
    """One class of instances.

    Attributes:
      name: name of the class.
      radius: smallest and largest mean half-axis in pixels.
      elongation: largest ratio of the half-axes.
      brightness: mean intensity above the background, 1 for a nucleus.
      density: instances per 10,000 pixels.
    """

    name: str
    radius: tuple[float, float]
    elongation: float
    brightness: float
    density: float


KINDS = (
    Kind("nucleus", radius=(8, 15), elongation=1.6, brightness=1.0, density=4.0),
    Kind("bright body", radius=(2, 4), elongation=1.2, brightness=2.2, density=2.5),
    Kind("rod", radius=(4, 6), elongation=4.0, brightness=0.6, density=1.5),
)
# Number of photons that one pixel collects at intensity 1.
PHOTONS = 200.0
SPLITS = ("train", "validation", "test")


class SyntheticSource:
    """Records made on demand, each a pure function of the seed, its split and its index.

    Args:
      split: `train`, `validation` or `test`, or a part in TFDS's notation; the three share no image.
      seed: random seed of the data set.
      train_size: number of images in the split.
      validation_size: number of images in the split.
      test_size: number of images in the split.
      image_size: side of the square images in pixels.
      channels: number of channels; the brightness of a class differs between channels.
      bits: 8 or 16.
      kinds: number of `KINDS`, without the background.

    Attributes:
      class_names: names of the classes 0 (background), 1, ...

    Raises:
      InputError: if the split is unknown or empty, or an option out of range.
    """

    def __init__(
        self,
        split: str,
        *,
        seed: int = 0,
        train_size: int = 64,
        validation_size: int = 8,
        test_size: int = 8,
        image_size: int = 256,
        channels: int = 1,
        bits: int = 16,
        kinds: int = 2,
    ) -> None:
        for name, value, allowed in (
            ("seed", seed, range(2**32)),
            ("image_size", image_size, range(16, 2**14)),
            ("channels", channels, range(1, 65)),
            ("bits", bits, (8, 16)),
            ("kinds", kinds, range(1, len(KINDS) + 1)),
        ):
            if value not in allowed:
                limits = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else "8 or 16"
                raise InputError(f"option {name} of data set synthetic is {value}; it must be {limits}")
        sizes = dict(zip(SPLITS, (train_size, validation_size, test_size), strict=True))
        self._keys = [
            (SPLITS.index(name), index)
            for name, start, stop in split_slices("synthetic", split, sizes)
            for index in range(start, stop)
        ]
        self._seed = seed
        self._draw = partial(
            draw, shape=(image_size, image_size), channels=channels, bits=bits, kinds=KINDS[:kinds]
        )
        self.class_names = ("background", *(kind.name for kind in KINDS[:kinds]))

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Record:
        split, number = self._keys[index]
        # Seed, split and image are separate words of the key, so no two images have the same random numbers.
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, split, number])))
        image, truth = self._draw(rng)
        name = f"synthetic_{SPLITS[split]}_{number:05d}"
        return Record(name=name, group=name, image=image, truth=truth)


def draw(
    rng: np.random.Generator,
    *,
    shape: tuple[int, int],
    channels: int,
    bits: int,
    kinds: Sequence[Kind] = KINDS[:2],
) -> tuple[np.ndarray, Segmentation]:
    """Draws cells as a fluorescence microscope records them.

    Later ellipses cover earlier ones. Texture, blur, uneven illumination, background, shot noise and camera
    noise are added.

    Args:
      rng: random generator.
      shape: `(H, W)`.
      channels: C.
      bits: 8 or 16.
      kinds: the classes 1, 2, ...

    Returns:
      [H, W, C] uint8 or uint16, and the exact segmentation. Fully covered ellipses are not in it.
    """
    labels, classes, amplitude = _place(rng, shape, kinds)
    # Each channel stains each class differently; the first stains all of them fully.
    stain = np.concatenate(
        [np.ones((len(kinds), 1)), rng.uniform(0.1, 1, (len(kinds), channels - 1))], axis=1
    )
    texture = 1 + 0.15 * _smooth(rng, shape, sigma=3)
    illumination = 1 + 0.25 * _smooth(rng, shape, sigma=max(shape) / 3)
    weight = np.concatenate([np.zeros((1, channels)), stain])[
        np.concatenate([[0], classes])[labels]
    ]  # [H, W, C]
    light = weight * (np.concatenate([[0.0], amplitude])[labels] * texture)[..., None]
    light = ndimage.gaussian_filter(light, sigma=(1.0, 1.0, 0)) + rng.uniform(0.02, 0.1)
    photons = rng.poisson(PHOTONS * np.maximum(light * illumination[..., None], 0))
    signal = photons / PHOTONS + rng.normal(0, 0.01, photons.shape)
    # Exposure differs between images; the brightest cells stay below saturation.
    peak = (2**bits - 1) * rng.uniform(0.05 if bits == 16 else 0.4, 0.9)
    pixels = np.clip(np.round(signal / max(signal.max(), 1e-6) * peak), 0, 2**bits - 1)
    truth = Segmentation.from_labels(labels, classes=classes[np.unique(labels[labels > 0]) - 1])
    return pixels.astype(np.uint8 if bits == 8 else np.uint16), truth


def _place(
    rng: np.random.Generator, shape: tuple[int, int], kinds: Sequence[Kind]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a label map [H, W] with gaps, and class and amplitude of every ellipse, covered ones too."""
    labels = np.zeros(shape, np.int32)
    classes, amplitude = [], []
    for index, kind in enumerate(kinds, start=1):
        for _ in range(max(1, rng.poisson(kind.density * shape[0] * shape[1] / 10_000))):
            radius, ratio = rng.uniform(*kind.radius), rng.uniform(1, kind.elongation) ** 0.5
            y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
            rows = ellipse(y, x, radius * ratio, radius / ratio, shape, rotation=rng.uniform(-np.pi, np.pi))
            classes.append(index)
            amplitude.append(kind.brightness * rng.uniform(0.6, 1.4))
            labels[rows] = len(classes)
    return labels, np.array(classes, np.int32), np.array(amplitude)


def _smooth(rng: np.random.Generator, shape: tuple[int, int], *, sigma: float) -> np.ndarray:
    """Returns a random field [H, W] in [-1, 1] that varies over `sigma` pixels."""
    # A coarse field is enlarged, because a wide blur at full resolution would dominate the run time.
    step = max(1, round(sigma))
    coarse = rng.uniform(-1, 1, (shape[0] // step + 4, shape[1] // step + 4))
    y, x = (np.arange(size) / step + 1 for size in shape)
    field = ndimage.map_coordinates(coarse, np.meshgrid(y, x, indexing="ij"), order=3, prefilter=False)
    return np.clip(field * 1.5, -1, 1)
