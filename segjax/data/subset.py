"""Some of the records of a source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.data.records import Record, Source
from segjax.data.shapes import shapes_of


class SubsetSource:
    """The records of a source at some indices.

    Attributes:
      class_names: names of class 0 (background), 1, ...
      sources: the source, alone.
      leaks: those of the source.
      split_sha256: that of the source.
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.class_names = source.class_names
        self.sources = (source,)
        self.leaks = tuple(getattr(source, "leaks", ()))
        self.split_sha256 = getattr(source, "split_sha256", None)
        self._indices = tuple(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        return self.sources[0][self._indices[index]]

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Returns name and shape of each record, as `shapes_of`."""
        shapes = shapes_of(self.sources[0])
        return [shapes[index] for index in self._indices] if len(shapes) == len(self.sources[0]) else []

    def groups(self) -> list[str]:
        """Returns the group of each record."""
        groups = groups_of(self.sources[0])
        return [groups[index] for index in self._indices]


def evenly(source: Source, count: int) -> SubsetSource:
    """Returns at most `count` records from all over a source."""
    return SubsetSource(source, [*map(int, np.linspace(0, len(source) - 1, min(count, len(source))))])


def random_images(source: Source, count: int, *, seed: int) -> SubsetSource:
    """Returns random records, group by group: few images are images of few patients.

    Args:
      source: the source.
      count: number of records; all if there are fewer.
      seed: random seed. For one seed, a smaller subset is part of a larger one.
    """
    groups = groups_of(source)
    order = {group: rank for rank, group in enumerate(sorted(set(groups)))}
    ranks = np.random.default_rng(seed).permutation(len(order))
    indices = sorted(range(len(source)), key=lambda index: (ranks[order[groups[index]]], index))
    return SubsetSource(source, indices[:count])


def groups_of(source: Source) -> list[str]:
    """Returns the group of each record; only prepared data tell it without decoding the images."""
    if hasattr(source, "groups"):
        groups: list[str] = source.groups()
        return groups
    if hasattr(source, "sources"):
        return [group for part in source.sources for group in groups_of(part)]
    return [source[index].group for index in range(len(source))]
