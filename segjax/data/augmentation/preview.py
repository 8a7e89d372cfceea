"""Preview of augmented training patches of one image."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from segjax.data.augmentation.policy import make_augment
from segjax.data.records import Record
from segjax.data.stream import Stream, StreamConfig


class AugmentedPatch(NamedTuple):
    """One augmented patch.

    Attributes:
      image: [S, S, C] float32, normalised.
      labels: [S, S] int32, ids of the record's instances and of pasted copies.
      semantic: [S, S] int32, `IGNORE` allowed.
    """

    image: np.ndarray
    labels: np.ndarray
    semantic: np.ndarray


def augmented(
    record: Record,
    settings: Mapping[str, Any],
    *,
    patch_size: int,
    count: int,
    seed: int = 0,
    **preprocessing: Any,
) -> list[AugmentedPatch]:
    """Returns augmented patches of one image, made as in training.

    Args:
      record: the annotated image.
      settings: arguments of `make_augment`, as in `config.augment`; hashable.
      patch_size: side S of the patches in pixels, after scaling; at most the shorter side of the image.
      count: number of patches.
      seed: random seed.
      **preprocessing: `scale`, `percentiles`, `stain`, `margin` and `foreground_fraction` of `StreamConfig`.

    Returns:
      The patches.

    Raises:
      InputError: if a setting is invalid, or the image is smaller than a patch.
    """
    config = StreamConfig(seed, batch_size=count, patch_size=patch_size, cache_bytes=0, **preprocessing)
    stream = Stream(_One(record), config, targets=())
    augment = _compiled(patch_size, tuple(settings.items()))
    batch = jax.device_get(augment(jax.random.split(jax.random.key(seed), count), stream.batch(0)))
    return [
        AugmentedPatch(*parts)
        for parts in zip(*(batch[name] for name in AugmentedPatch._fields), strict=True)
    ]


@functools.lru_cache(maxsize=8)
def _compiled(patch_size: int, settings: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    return jax.jit(jax.vmap(make_augment(patch_size=patch_size, **dict(settings))))


class _One:
    """A source with a single record."""

    def __init__(self, record: Record) -> None:
        truth = record.truth
        highest = max(truth.semantic.max(initial=0), truth.classes.max(initial=0))
        self.class_names = tuple(f"class {index}" for index in range(highest + 1))
        self._record = record

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Record:
        return self._record
