"""Splits where none is official: by a hash, so that they need no list and are everywhere the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def share_of(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: the first 32 bits of its sha256."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def split_groups(groups: Iterable[str]) -> dict[str, str]:
    """Splits groups 60 : 20 : 20 into train, validation and test.

    Few groups would not fall evenly by thresholds of their hashes, so the order of the hashes is cut.

    Args:
      groups: their ids, in any order.

    Returns:
      The split of each; with three groups or more no split is empty.
    """
    ordered = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    train = max(1, min(round(0.6 * len(ordered)), len(ordered) - 2))
    validation = max(train + 1, min(round(0.8 * len(ordered)), len(ordered) - 1))
    return {
        group: "train" if index < train else "validation" if index < validation else "test"
        for index, group in enumerate(ordered)
    }
