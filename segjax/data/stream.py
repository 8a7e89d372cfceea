"""Training batches as a pure function of (seed, step)."""

from __future__ import annotations

import copy
import dataclasses
import math
import threading
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Annotated

import numpy as np
from absl import logging
from cachetools import LRUCache
from scipy import ndimage

from segjax.data.kinds import repeated
from segjax.data.preprocess import check_percentiles, factor_to_diameter, preprocess_example
from segjax.data.records import Source
from segjax.data.shapes import check_shape, shapes_of
from segjax.data.stain import METHODS
from segjax.data.windows import boxes_in_window, cut_window, pad_boxes, renumber
from segjax.errors import InputError, choose
from segjax.settings import Count, Fraction, NonNegativeInt, Positive, Range, Settings

# Random-number domains: image order, patch positions and box sampling use independent streams.
ORDER, POSITION, BOXES = 0, 1, 2

HostBatch = dict[str, np.ndarray]
Percentile = Annotated[float, Range(0, 100)]


@dataclasses.dataclass(frozen=True)
class StreamConfig(Settings):
    """Settings of `Stream`.

    Attributes:
      seed: random seed, 0 to 2**64 - 1.
      batch_size: B, over all processes.
      patch_size: side of a patch in pixels, after scaling.
      scale: scale factor of each image side, as in `resize_image`.
      diameter: if not None, each image is scaled such that the median diameter of its instances has this
        number of pixels, by a factor from 1/4 to 4. Images smaller than a patch are then allowed.
      percentiles: intensity percentiles that become 0 and 1, as in `percentile_normalise`.
      stain: stain normalisation method, as in `normalise_stain`.
      foreground_fraction: fraction of patches centred on an instance, or as close to it as the image border
        allows. The class is drawn uniformly, then an instance of it. The other patches are uniform.
      balance: how far rare kinds of images, see `image_kind`, are repeated: the images of a kind are repeated
        `(m / n) ** balance` times, rounded, where n is their number and m that of the commonest kind.
      margin: side of the window around a patch, as a multiple of `patch_size`; rounded up.
      max_instances: N. If not None, the ids in each window are 1..N; of more than N instances, the smallest
        are removed and their pixels ignored.
      max_proposals: number of proposals per window; a random subset is used if there are more.
      cache_bytes: maximum size of the cache of preprocessed images.
    """

    seed: Annotated[int, Range(0, 2**64, below=True)]
    batch_size: Count
    patch_size: Annotated[int, Range(1, 2**16)]
    scale: Annotated[float, Range(0, 16, above=True)] = 1.0
    diameter: Positive | None = None
    percentiles: tuple[Percentile, Percentile] = (1.0, 99.8)
    stain: str | None = None
    foreground_fraction: Fraction = 0.5
    balance: Fraction = 0.0
    margin: Annotated[float, Range(1, 4)] = 1.0
    max_instances: Count | None = None
    max_proposals: Count = 1000
    cache_bytes: NonNegativeInt = 4 * 2**30

    def __post_init__(self) -> None:
        super().__post_init__()
        check_percentiles(self.percentiles)
        if self.stain is not None:
            choose(METHODS, "stain", self.stain)
        if self.diameter is not None and self.scale != 1:
            message = f"scale={self.scale:g} and diameter={self.diameter:g} are both given: set only one"
            raise InputError(message, field="scale")


@dataclasses.dataclass(frozen=True, eq=False)
class CachedExample:
    """A preprocessed image, ready to be cut into patches.

    Attributes:
      maps: arrays from `preprocess_example`.
      instances: `(id, bounding box)` of the instances of each class that is present.
      name: name of the record.
      classes: [N] int32, classes of instances 1..N of the record.
      proposals: [P, 4] float32, pixels of the maps; None without external proposals.
    """

    maps: HostBatch
    instances: dict[int, list[tuple[int, tuple[slice, ...]]]]
    name: str
    classes: np.ndarray
    proposals: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(values.nbytes for values in self.maps.values())


class Stream:
    """An endless sequence of batches of patches, with random access by step.

    Row b of step s is row r = s * batch_size + b of the run. It takes image r modulo the number of images,
    repetitions included, from a new permutation in each epoch, and a position in it from random numbers keyed
    by (seed, r). A batch therefore depends only on seed and step. A run resumes from its step alone, and the
    numbers of processes and threads do not affect the batches.

    A patch lies within its image. The batch contains a larger window around it, of side `window_size`, which
    provides context for rotation and scaling on the device; augmentation then crops the centre. Beyond the
    border of the image the window contains its reflection, which training ignores: `semantic` is `IGNORE`
    there, `labels` and `distance` are 0.

    Args:
      source: the records to train on.
      config: the settings.
      process_index: index of this process.
      process_count: number of processes; each makes an equal number of rows of every batch.
      propose: returns region proposals [P, 4] in pixels for an image as stored; None for no proposals.
      targets: the optional keys of a batch that the task needs, see `segjax.typing.Batch`.

    Attributes:
      window_size: side of the maps of a batch in pixels.
      channels: number of channels of every image.

    Raises:
      InputError: if there is no record, `process_count` does not divide `batch_size`, or an image is known
        to be smaller than a patch or to differ from the first in its channels.
    """

    def __init__(
        self,
        source: Source,
        config: StreamConfig,
        *,
        process_index: int = 0,
        process_count: int = 1,
        propose: Callable[[np.ndarray], np.ndarray] | None = None,
        targets: Collection[str] = ("distance",),
    ) -> None:
        if len(source) == 0:
            raise InputError("there is no image to train on: give another split or data set")
        if config.batch_size < 1 or config.batch_size % process_count:
            raise InputError(
                f"batch_size is {config.batch_size}; it must be a multiple of the {process_count} processes"
            )
        self._source = source
        self._config = config
        rows = config.batch_size // process_count
        self._rows = range(process_index * rows, (process_index + 1) * rows)
        self._cache: LRUCache[int, CachedExample] = LRUCache(config.cache_bytes, lambda item: item.nbytes)
        self._lock = threading.Lock()
        self._propose = propose
        self._targets = targets
        # Images of which a window has had too many instances.
        self._overfull: set[str] = set()
        # Cache two permutations: threads may work on two epochs at once.
        self._order = lru_cache(maxsize=2)(self._permutation)
        self.channels = source[0].image.shape[-1]
        # Images are checked before the first step: while all are decoded for the balance, or as far as their
        # shapes are known without decoding.
        for name, shape in shapes_of(source) if config.balance == 0 else ():
            self._check(name, shape)
        self._images = repeated(source, config.balance, check=self._check)
        self.window_size = math.ceil(config.patch_size * config.margin)

    def with_seed(self, seed: int) -> Stream:
        """Returns the stream of another seed, which uses the same cache of images."""
        other = copy.copy(self)
        other._config = dataclasses.replace(self._config, seed=seed)
        other._order = lru_cache(maxsize=2)(other._permutation)
        return other

    def batch(self, step: int) -> HostBatch:
        """Makes this process's rows of a batch.

        Args:
          step: 0, 1, ...

        Returns:
          This process's rows of a `segjax.typing.Batch`, with H = W = `window_size`.

        Raises:
          InputError: if an image is smaller than a patch, or differs from the first in its channels.
        """
        patches = [self._patch(step * self._config.batch_size + row) for row in self._rows]
        return {name: np.stack([patch[name] for patch in patches]) for name in patches[0]}

    def names(self, step: int) -> list[str]:
        """Returns the names of the images in this process's rows of a batch."""
        return [self._example_of(step * self._config.batch_size + row).name for row in self._rows]

    def _example_of(self, row: int) -> CachedExample:
        epoch, position = divmod(row, len(self._images))
        return self._example(int(self._images[self._order(epoch)[position]]))

    def _patch(self, row: int) -> HostBatch:
        example = self._example_of(row)
        top, left = self._position(example, self._random(POSITION, row))
        overhang = (self.window_size - self._config.patch_size) // 2
        top, left = top - overhang, left - overhang
        window = cut_window(example.maps, top, left, self.window_size)
        if self._config.max_instances is not None:
            window["classes"], excess = renumber(window, example.classes, self._config.max_instances)
            if excess:
                self._warn(example.name, excess)
        if example.proposals is not None:
            window |= self._proposals(example.proposals, top, left, self._random(BOXES, row))
        return window

    def _permutation(self, epoch: int) -> np.ndarray:
        return self._random(ORDER, epoch).permutation(len(self._images))

    def _random(self, domain: int, counter: int) -> np.random.Generator:
        # Philox is a function of key and counter: no state is carried from one row to the next.
        key = np.array([self._config.seed, counter], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, domain]))

    def _position(self, example: CachedExample, rng: np.random.Generator) -> tuple[int, int]:
        """Draws the upper left corner of a patch."""
        size = self._config.patch_size
        limits = np.array(example.maps["labels"].shape) - size
        smaller, limits = np.minimum(limits, 0) // 2, np.maximum(limits, 0)
        on_instance = rng.random() < self._config.foreground_fraction
        corner = rng.integers(0, limits, endpoint=True)
        if on_instance and example.instances:
            classes = sorted(example.instances)
            instances = example.instances[classes[rng.integers(len(classes))]]
            index, box = instances[rng.integers(len(instances))]
            # A random pixel, not the centre: otherwise the network learns that instances lie in the middle.
            inside = np.argwhere(example.maps["labels"][box] == index)
            pixel = inside[rng.integers(len(inside))] + [side.start for side in box]
            corner = np.clip(pixel - size // 2, 0, limits)
        # A side that is smaller than the patch is centred in it.
        return int(corner[0] + smaller[0]), int(corner[1] + smaller[1])

    def _warn(self, name: str, excess: int) -> None:
        if name not in self._overfull:
            logging.warning(
                "%s has %d instances more than max_instances=%d in one window: the smallest are"
                " left out and their pixels ignored; so far in %d images",
                name,
                excess,
                self._config.max_instances,
                len(self._overfull) + 1,
            )
        self._overfull.add(name)

    def _proposals(self, boxes: np.ndarray, top: int, left: int, rng: np.random.Generator) -> HostBatch:
        """Returns the padded proposals with more than half their area in a window, in window pixels."""
        capacity = self._config.max_proposals
        inside = boxes_in_window(boxes, top=top, left=left, size=(self.window_size, self.window_size))
        if len(inside) > capacity:
            inside = inside[rng.permutation(len(inside))[:capacity]]
        padded, valid = pad_boxes(inside, capacity)
        return {"proposals": padded, "proposals_valid": valid}

    def _example(self, index: int) -> CachedExample:
        with self._lock:
            example = self._cache.get(index)
        if example is None:
            example = self._load(index)
            with self._lock:
                if example.nbytes <= self._cache.maxsize:
                    self._cache[index] = example
        return example

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        size = self._config.patch_size if self._config.diameter is None else None
        check_shape(name, shape, channels=self.channels, scale=self._config.scale, patch_size=size)

    def _load(self, index: int) -> CachedExample:
        config, record = self._config, self._source[index]
        self._check(record.name, record.image.shape)
        scale = config.scale
        if config.diameter is not None:
            scale = factor_to_diameter(record.truth.labels, config.diameter)
        maps = preprocess_example(
            record,
            num_classes=len(self._source.class_names),
            targets=self._targets,
            scale=scale,
            percentiles=config.percentiles,
            stain=config.stain,
        )
        instances: dict[int, list[tuple[int, tuple[slice, ...]]]] = {}
        for number, box in enumerate(ndimage.find_objects(maps["labels"]), start=1):
            if box is not None:
                instances.setdefault(int(record.truth.classes[number - 1]), []).append((number, box))
        proposals = None
        if self._propose is not None:
            proposals = np.asarray(self._propose(record.image), np.float32) * np.float32(scale)
        return CachedExample(maps, instances, record.name, record.truth.classes, proposals)
