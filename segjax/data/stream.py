"""Training batches as a pure function of (seed, step), prefetched in threads."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from absl import logging
from scipy import ndimage

from segjax.data.preprocess import preprocess_example
from segjax.data.records import Source
from segjax.data.windows import boxes_in_window, pad_boxes
from segjax.errors import InputError
from segjax.typing import IGNORE

# Fill values beyond the image border; the image itself is reflected.
FILL = {"labels": 0, "semantic": IGNORE, "distance": 0}
# Random-number domains: image order, patch positions and box sampling use independent streams.
ORDER, PLACE, BOXES = 0, 1, 2

HostBatch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready to be cut into patches.

    Attributes:
      example: arrays from `preprocess_example`.
      instances: for each class that is present, `(id, bounding box)` of its instances.
      name: name of the record.
      classes: [N] classes of the record's instances.
      proposals: [P, 4] float32 boxes in pixels of the example, None without `propose`.
    """

    example: HostBatch
    instances: dict[int, list[tuple[int, tuple[slice, ...]]]]
    name: str
    classes: np.ndarray
    proposals: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(array.nbytes for array in self.example.values())


class Stream:
    """An endless sequence of batches of patches, with random access by step.

    Row r of the whole run (row b of step s is r = s * batch_size + b) takes image r modulo the number of
    images from a new permutation in each epoch, and a place in it by random numbers keyed by (seed, r). So a
    batch depends on the seed and the step alone: to resume a run needs only the step, and neither
    the number of processes nor that of threads changes what is learned from.

    A patch of `patch_size` lies within its image. The batch holds a larger window around it, of side
    `window_size`, which gives rotation and scaling on the device some context; augmentation then crops the
    centre. Beyond the border of the image the window holds its reflection, which is ignored in
    training: `semantic` is `IGNORE` there, `labels` and `distance` are 0.

    Args:
      source: the records to train on.
      seed: random seed, 0 to 2**64 - 1.
      batch_size: global batch size B, over all processes.
      patch_size: side of the patch in pixels, after scaling.
      scale: scale factor of each image side, as in `resize_image`.
      percentiles: intensity percentiles mapped to 0 and 1 as in `percentile_normalise`.
      stain: stain normalisation method, as in `normalise_stain`.
      foreground_fraction: fraction of patches centred on an instance, as nearly as the border allows; the
        others are placed uniformly.
      balanced: whether to draw a class uniformly and then one of its instances; otherwise instances are drawn
        uniformly.
      margin: `window_size` is `patch_size` times this, rounded up.
      process_index: index of this process.
      process_count: each process gets an equal part of the rows of the same batch.
      cache_bytes: limit of the cache of prepared images, in bytes.
      max_instances: N; if given, ids are 1..N in each window, with their classes, and of more than N
        the smallest are left out and their pixels ignored.
      propose: function from the image as stored to object proposals [P, 4], in pixels.
      max_proposals: number of proposals per window; a random subset is used if there are more.

    Attributes:
      window_size: side of the arrays of a batch in pixels.
      channels: number of channels of every image.
      overfull: names of images of which a window had more than `max_instances`, and how many were left out
        at most.

    Raises:
      InputError: if an argument is out of range.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        batch_size: int,
        patch_size: int,
        scale: float = 1.0,
        percentiles: tuple[float, float] = (1.0, 99.8),
        stain: str | None = None,
        foreground_fraction: float = 0.5,
        balanced: bool = True,
        margin: float = 1.0,
        process_index: int = 0,
        process_count: int = 1,
        cache_bytes: int = 2**30,
        max_instances: int | None = None,
        propose: Callable[[np.ndarray], np.ndarray] | None = None,
        max_proposals: int = 1000,
    ) -> None:
        if len(source) == 0:
            raise InputError("there is no image to train on; give another split or data set")
        if batch_size < 1 or batch_size % process_count:
            raise InputError(
                f"config.batch_size is {batch_size}; it must be a multiple of the {process_count} processes"
            )
        if patch_size < 1:
            raise InputError(f"config.data.patch_size is {patch_size}; it must be at least 1")
        if not 0 <= foreground_fraction <= 1:
            raise InputError(
                f"config.data.foreground_fraction is {foreground_fraction}; it must be between 0 and 1"
            )
        if not 1 <= margin <= 4:
            raise InputError(f"config.data.margin is {margin}; it must be between 1, for no margin, and 4")
        if not 0 <= seed < 2**64:
            raise InputError(f"config.seed is {seed}; it must be between 0 and 2**64 - 1")
        if max_instances is not None and max_instances < 1:
            raise InputError(f"config.data.max_instances is {max_instances}; it must be at least 1")
        self._source = source
        self._seed = seed
        self._batch_size = batch_size
        self._patch_size = patch_size
        self._scale = scale
        self._percentiles = percentiles
        self._stain = stain
        self._foreground_share = foreground_fraction
        self._balanced = balanced
        part = batch_size // process_count
        self._rows = range(process_index * part, (process_index + 1) * part)
        self._cache = _Cache(cache_bytes)
        self._max_instances = max_instances
        self._propose = propose
        self._max_proposals = max_proposals
        self.overfull: dict[str, int] = {}
        # A permutation serves a whole epoch, and threads may be in two at once.
        self._order = lru_cache(maxsize=2)(self._permutation)
        self.channels = source[0].image.shape[-1]
        self.window_size = math.ceil(patch_size * margin)

    def batch(self, step: int) -> HostBatch:
        """Makes this process's part of one batch.

        Args:
          step: 0, 1, ...

        Returns:
          image [B/P, h, w, C] float32, labels [B/P, h, w] int32, semantic [B/P, h, w] int32,
          distance [B/P, h, w] float32, where h and w are `window_size` and P is `process_count`. With
          `max_instances`, classes [B/P, N] int32, of the ids 1..N, 0 where there is none. With `propose`,
          proposals [B/P, max_proposals, 4] float32 in pixels of the window, and proposals_valid, bool.

        Raises:
          InputError: if an image is smaller than a patch, or unlike the others in channels.
        """
        patches = [self._patch(step * self._batch_size + row) for row in self._rows]
        return {name: np.stack([patch[name] for patch in patches]) for name in patches[0]}

    def _patch(self, row: int) -> HostBatch:
        epoch, position = divmod(row, len(self._source))
        prepared = self._prepared(int(self._order(epoch)[position]))
        top, left = self._place(prepared, self._random(PLACE, row))
        overhang = (self.window_size - self._patch_size) // 2
        top, left = top - overhang, left - overhang
        window = _window(prepared.example, top, left, self.window_size)
        if self._max_instances is not None:
            window["classes"] = self._number(window, prepared)
        if prepared.proposals is not None:
            window |= self._proposals(prepared.proposals, top, left, self._random(BOXES, row))
        return window

    def _number(self, window: HostBatch, prepared: Prepared) -> np.ndarray:
        """Renumbers the instances of a window to 1..N in place and returns their classes."""
        capacity = self._max_instances or 0
        ids, inverse, areas = np.unique(window["labels"], return_inverse=True, return_counts=True)
        present = np.flatnonzero(ids > 0)
        selected = present
        if len(present) > capacity:
            selected = np.sort(present[np.argsort(-areas[present], kind="stable")[:capacity]])
            window["semantic"][np.isin(window["labels"], ids[np.setdiff1d(present, selected)])] = IGNORE
            self._warn(prepared.name, len(present) - capacity)
        number = np.zeros(len(ids), np.int32)
        number[selected] = np.arange(1, len(selected) + 1)
        window["labels"] = number[inverse.reshape(window["labels"].shape)]
        classes = np.zeros(capacity, np.int32)
        classes[: len(selected)] = prepared.classes[ids[selected] - 1]
        return classes

    def _warn(self, name: str, surplus: int) -> None:
        if name not in self.overfull:
            logging.warning(
                "%s has %d instances more than config.data.max_instances=%d in one window: the smallest are"
                " left out there and not judged; so far in %d images",
                name,
                surplus,
                self._max_instances,
                len(self.overfull) + 1,
            )
        self.overfull[name] = max(surplus, self.overfull.get(name, 0))

    def _proposals(self, boxes: np.ndarray, top: int, left: int, rng: np.random.Generator) -> HostBatch:
        """Returns the padded proposals with more than half their area in a window, in window pixels."""
        inside = boxes_in_window(boxes, top=top, left=left, size=(self.window_size, self.window_size))
        if len(inside) > self._max_proposals:
            inside = inside[rng.permutation(len(inside))[: self._max_proposals]]
        padded, valid = pad_boxes(inside, self._max_proposals)
        return {"proposals": padded, "proposals_valid": valid}

    def _permutation(self, epoch: int) -> np.ndarray:
        return self._random(ORDER, epoch).permutation(len(self._source))

    def _random(self, domain: int, counter: int) -> np.random.Generator:
        # Philox is a function of key and counter: no state runs on from one row to the next.
        key = np.array([self._seed, counter], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, domain]))

    def _place(self, prepared: Prepared, rng: np.random.Generator) -> tuple[int, int]:
        """Draws the upper left corner of a patch."""
        limits = np.array(prepared.example["labels"].shape) - self._patch_size
        wants_instance = rng.random() < self._foreground_share
        corner = rng.integers(0, limits, endpoint=True)
        if wants_instance and prepared.instances:
            classes = sorted(prepared.instances)
            chosen = [classes[rng.integers(len(classes))]] if self._balanced else classes
            instances = [instance for index in chosen for instance in prepared.instances[index]]
            index, box = instances[rng.integers(len(instances))]
            # A random pixel of it rather than its centre: the network must not learn where to look.
            inside = np.argwhere(prepared.example["labels"][box] == index)
            pixel = inside[rng.integers(len(inside))] + [side.start for side in box]
            corner = np.clip(pixel - self._patch_size // 2, 0, limits)
        return int(corner[0]), int(corner[1])

    def _prepared(self, index: int) -> Prepared:
        prepared = self._cache.get(index)
        if prepared is None:
            prepared = self._prepare(index)
            self._cache.put(index, prepared)
        return prepared

    def _prepare(self, index: int) -> Prepared:
        record = self._source[index]
        example = preprocess_example(
            record,
            num_classes=len(self._source.class_names),
            scale=self._scale,
            percentiles=self._percentiles,
            stain=self._stain,
        )
        height, width, channels = example["image"].shape
        if min(height, width) < self._patch_size:
            raise InputError(
                f"{record.name} is {height} x {width} pixels at config.data.scale {self._scale:g}, smaller"
                f" than config.data.patch_size {self._patch_size}; make the patch smaller or the scale larger"
            )
        if channels != self.channels:
            raise InputError(
                f"{record.name} has {channels} channels, but the first image has {self.channels}; give images"
                " that all have the same channels"
            )
        instances: dict[int, list[tuple[int, tuple[slice, ...]]]] = {}
        for number, box in enumerate(ndimage.find_objects(example["labels"]), start=1):
            if box is not None:
                instances.setdefault(int(record.truth.classes[number - 1]), []).append((number, box))
        proposals = None
        if self._propose is not None:
            proposals = np.asarray(self._propose(record.image), np.float32) * np.float32(self._scale)
        return Prepared(example, instances, record.name, record.truth.classes, proposals)


@contextlib.contextmanager
def prefetch(
    stream: Stream, start: int = 0, *, workers: int = 2, depth: int = 4
) -> Iterator[Iterator[tuple[int, HostBatch]]]:
    """Iterates over `(step, batch)` in order while the next batches are made in threads.

    The batches do not depend on the number of threads. An error in a thread is raised when its batch is
    requested. Leaving the `with` statement stops the threads.

    Args:
      stream: makes the batches.
      start: the first step.
      workers: threads; with 0 each batch is made when it is asked for.
      depth: batches made ahead.

    Yields:
      An endless iterator over `(step, batch)`.

    Raises:
      InputError: if `workers` or `depth` is out of range, or a batch cannot be made.
    """
    if workers < 0 or depth < 1:
        raise InputError(f"config.data.workers is {workers} and depth {depth}; they must be at least 0 and 1")
    if workers == 0:
        yield ((step, stream.batch(step)) for step in itertools.count(start))
        return
    threads = ThreadPoolExecutor(workers, thread_name_prefix="batch")
    ahead = deque(threads.submit(stream.batch, start + index) for index in range(depth))

    def in_order() -> Iterator[tuple[int, HostBatch]]:
        for step in itertools.count(start):
            batch = ahead.popleft().result()
            # Refill the queue at once, so that threads work while the consumer does.
            ahead.append(threads.submit(stream.batch, step + depth))
            yield step, batch

    try:
        yield in_order()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


class _Cache:
    """Thread-safe LRU cache of prepared images, limited in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[int, Prepared] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, index: int) -> Prepared | None:
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
            return self._kept.get(index)

    def put(self, index: int, prepared: Prepared) -> None:
        with self._lock:
            if index in self._kept:  # another thread was faster
                return
            self._kept[index] = prepared
            self._size += prepared.nbytes
            while self._size > self._limit:
                self._size -= self._kept.popitem(last=False)[1].nbytes


def _window(example: HostBatch, top: int, left: int, size: int) -> HostBatch:
    """Cuts a square window that may extend beyond the border."""
    rows, columns = np.arange(top, top + size), np.arange(left, left + size)
    height, width = example["labels"].shape
    outside = ((rows < 0) | (rows >= height))[:, None] | ((columns < 0) | (columns >= width))[None, :]
    cut = np.ix_(_reflect(rows, height), _reflect(columns, width))
    window = {name: array[cut] for name, array in example.items()}
    for name, fill in FILL.items():
        window[name][outside] = fill
    return window


def _reflect(positions: np.ndarray, size: int) -> np.ndarray:
    """Folds positions back into [0, size) at the centres of the outermost pixels."""
    period = max(2 * (size - 1), 1)
    folded = np.abs(positions) % period
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(positions)
