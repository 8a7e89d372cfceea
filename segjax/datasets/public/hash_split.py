"""Splits by a hash of the name, for data sets without an official split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath


def hash_fraction(name: str) -> float:
    """Returns a number in [0, 1) that depends only on the name: the first 32 bits of its sha256."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def split_groups(groups: Iterable[str]) -> dict[str, str]:
    """Splits groups 60 : 20 : 20 into train, validation and test.

    The groups are sorted by their hash and cut by position, because thresholds of the hashes would split a
    few groups unevenly.

    Returns:
      The split of each group. With three groups or more no split is empty.
    """
    ordered = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    train = max(1, min(round(0.6 * len(ordered)), len(ordered) - 2))
    validation = max(train + 1, min(round(0.8 * len(ordered)), len(ordered) - 1))
    return {
        group: "train" if index < train else "validation" if index < validation else "test"
        for index, group in enumerate(ordered)
    }


def select_groups(
    images: Sequence[PurePosixPath], group: Callable[[PurePosixPath], str], split: str
) -> list[PurePosixPath]:
    """Returns the images whose group is in a split of `split_groups`, in the same order."""
    split_by_group = split_groups(map(group, images))
    return [path for path in images if split_by_group[group(path)] == split]
