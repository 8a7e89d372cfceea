"""Splits and folds that keep groups together and balance the classes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segjax.datasets.checks.fingerprints import SAME, resemblance
from segjax.datasets.checks.summary import Summary, perceptual_of
from segjax.errors import InputError

FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}
# Maximum number of passes that move single groups after the first assignment; two are usually enough.
ROUNDS = 5


class Leak(NamedTuple):
    """Images that are in two splits and should not be.

    Attributes:
      kind: `group`, `duplicate` (equal pixels) or `near_duplicate` (similar pixels).
      splits: in alphabetical order, at least two.
      names: all images of the group or cluster, in alphabetical order.
      detail: one clause that names values.
    """

    kind: str
    splits: tuple[str, ...]
    names: tuple[str, ...]
    detail: str


def assign(
    summaries: Sequence[Summary],
    *,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    folds: int | None = None,
    by: Literal["group", "image"] = "group",
) -> dict[str, str]:
    """Assigns every image to a split.

    Images of one group stay together, and so do duplicates and near duplicates of any group. Groups are
    assigned one by one, the largest first, to the split where they bring the number of images and of
    instances of every class closest to the fractions. Then single groups move as long as that improves the
    fit. An image that has a split keeps it, and its group follows.

    Args:
      summaries: summaries of all images, with unique names.
      fractions: fraction of each split, at least 0, with the sum 1; `FRACTIONS` if None. Not
        used with `folds`.
      seed: random seed of the order of groups of about the same size. The result does not depend on the
        order of the images.
      folds: number of equal splits `fold_0`, `fold_1`, ... for cross-validation instead. An image that has a
        split, such as a separate test set, keeps it.
      by: `group` keeps groups together, `image` ignores them.

    Returns:
      The split of each image, by its name.

    Raises:
      InputError: if fractions or folds are invalid, or there are fewer groups than splits to fill.
    """
    target = targets(fractions, folds)
    summaries = sorted(summaries, key=lambda summary: summary.name)
    for summary, other in pairwise(summaries):
        if summary.name == other.name:
            raise InputError(f"two images are called {summary.name}: rename one of them")
    units = _units(summaries, by)
    split_of = _preset_splits(units)
    free = [unit for unit in units if unit[0].name not in split_of]
    needed = [name for name in target if target[name] > 0 and name not in split_of.values()]
    # If every image has a split already, the fractions do not matter.
    if len(free) < len(needed) and (free or folds is not None):
        raise InputError(
            f"{len(free)} {'group' if len(free) == 1 else 'groups'} without a split cannot fill"
            f" {', '.join(needed)}: name finer groups, ask for fewer splits, or split by image"
        )
    content = _content(summaries)
    filled = {split: np.zeros(content.shape[1]) for split in (*target, *split_of.values())}
    row_of = {summary.name: row for summary, row in zip(summaries, content, strict=True)}
    for name, split in split_of.items():
        filled[split] += row_of[name]
    # Images in splits of other names are not distributed.
    total = 1 - sum((filled[split] for split in filled if split not in target), np.zeros(content.shape[1]))
    assigned = _assign_units(
        [sum(row_of[summary.name] for summary in unit) for unit in free],
        np.array([filled[split] for split in target]),
        np.outer(list(target.values()), total),
        np.random.default_rng(seed),
    )
    for unit, index in zip(free, assigned, strict=True):
        split_of |= {summary.name: list(target)[index] for summary in unit}
    return {summary.name: split_of[summary.name] for summary in summaries}


def leaks(summaries: Sequence[Summary]) -> list[Leak]:
    """Finds groups, duplicates and near duplicates that are in two splits.

    Args:
      summaries: summaries with splits; those without one are ignored.

    Returns:
      All leaks, groups first. A chain of near duplicates is one leak.
    """
    summaries = sorted((s for s in summaries if s.split is not None), key=lambda summary: summary.name)
    result = []
    group, duplicate, alike = _shared(summaries)
    for kind, keys, detail in (
        ("group", group, "group {0.group}"),
        ("duplicate", duplicate, "the same pixels, sha256 {0.pixel_digest:.12}"),
        ("near_duplicate", alike, "images that look alike"),
    ):
        members = defaultdict(list)
        for summary, key in zip(summaries, keys, strict=True):
            members[key].append(summary)
        for shared in members.values():
            splits = tuple(sorted({str(summary.split) for summary in shared}))
            same = len({summary.pixel_digest for summary in shared}) == 1
            if len(splits) > 1 and not (kind == "near_duplicate" and same):
                names = tuple(summary.name for summary in shared)
                result.append(Leak(kind, splits, names, detail.format(shared[0])))
    return result


def digest(split_of: Mapping[str, str]) -> str:
    """Returns the sha256 of an assignment of images to splits.

    Args:
      split_of: the split of each image, by its name.

    Returns:
      The digest of the sorted lines `name, tab, split`, in hexadecimal.
    """
    lines = sorted(f"{name}\t{split}\n" for name, split in split_of.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def targets(fractions: Mapping[str, float] | None, folds: int | None) -> dict[str, float]:
    """Returns the fraction of each split, see `assign`.

    Raises:
      InputError: if the fractions or the number of folds are invalid.
    """
    if folds is not None:
        if folds < 2:
            raise InputError(f"folds is {folds}; cross-validation needs at least 2")
        return {f"fold_{index}": 1 / folds for index in range(folds)}
    fractions = FRACTIONS if fractions is None else fractions
    if not fractions or min(fractions.values()) < 0 or not abs(sum(fractions.values()) - 1) <= 1e-6:
        listed = ", ".join(f"{name} {fraction:g}" for name, fraction in fractions.items()) or "none"
        raise InputError(f"the fractions of splits are {listed}; they must be at least 0 and sum to 1")
    return dict(fractions)


def _shared(summaries: Sequence[Summary]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns three keys per image, each [N]: equal for one group, equal pixels, similar pixels."""
    if not summaries:
        return (np.zeros(0, np.int64),) * 3
    group, duplicate = (
        np.unique([getattr(summary, field) for summary in summaries], return_inverse=True)[1]
        for field in ("group", "pixel_digest")
    )
    # Images without cells are similar by their illumination alone.
    prints = perceptual_of(summaries) * np.array([bool(s.areas) for s in summaries], np.int8)[:, None, None]
    return group, duplicate, resemblance(prints, threshold=SAME).cluster


def _units(summaries: Sequence[Summary], by: str) -> list[list[Summary]]:
    """Returns the sets of images that must stay together, ordered by their first name."""
    count = len(summaries)
    group, *looks = _shared(summaries)
    keys = [*looks] if by == "image" else [group, *looks]
    # A bipartite graph of images and keys.
    offsets = count * np.arange(1, len(keys) + 1)
    shared = np.concatenate([key + offset for key, offset in zip(keys, offsets, strict=True)])
    images = np.tile(np.arange(count), len(keys))
    size = count * (len(keys) + 1)
    graph = coo_array((np.ones(len(images), bool), (images, shared)), (size, size))
    units = defaultdict(list)
    for summary, unit in zip(summaries, connected_components(graph, directed=False)[1], strict=False):
        units[unit].append(summary)
    return list(units.values())


def _preset_splits(units: Sequence[Sequence[Summary]]) -> dict[str, str]:
    """Returns the splits that the user chose, extended to the images that must stay with them."""
    split_of: dict[str, str] = {}
    for unit in units:
        preset = [summary.split for summary in unit if summary.split is not None]
        if preset:
            # If the user split a group, the rest of it goes to the split that has most of it.
            usual = min(preset, key=lambda split: (-preset.count(split), split))
            split_of |= {summary.name: summary.split or usual for summary in unit}
    return split_of


def _content(summaries: Sequence[Summary]) -> np.ndarray:
    """Returns [N, D]: the fraction of all images and of the instances of each class that each image has."""
    classes = sorted({index for summary in summaries for index in summary.areas})
    counts = np.array(
        [[1.0, *(len(summary.areas.get(index, ())) for index in classes)] for summary in summaries]
    ).reshape(len(summaries), 1 + len(classes))
    return counts / np.maximum(counts.sum(axis=0), 1)


def _assign_units(
    contents: Sequence[np.ndarray], filled: np.ndarray, target: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Assigns each unit to a split.

    Args:
      contents: U times [D], the content of each unit.
      filled: [S, D], the initial content of each split.
      target: [S, D], the desired content of each split.
      rng: random order of units of about the same size.

    Returns:
      [U] integer.
    """
    filled, units = filled.copy(), np.array(contents).reshape(-1, filled.shape[1])
    splits = np.flatnonzero(target.any(axis=1))
    assigned = np.zeros(len(units), np.int64)
    sizes = np.floor(np.log2(np.maximum(units.sum(axis=1), 1e-12)))
    order = np.lexsort((rng.random(len(units)), -sizes))

    def cost(unit: np.ndarray) -> np.ndarray:
        """Returns [S]: how much the squared distance to the target grows if the unit is added."""
        gap = filled[splits] - target[splits]
        return ((gap + unit) ** 2 - gap**2).sum(axis=1)

    for count, unit in enumerate(order):
        costs = cost(units[unit])
        empty = ~filled[splits].any(axis=1)
        if len(order) - count <= empty.sum():  # no split stays empty
            costs[~empty] = np.inf
        assigned[unit] = splits[costs.argmin()]
        filled[assigned[unit]] += units[unit]
    for _ in range(ROUNDS):
        moved = False
        for unit in order:
            old = assigned[unit]
            filled[old] -= units[unit]
            costs = cost(units[unit])
            best = splits[costs.argmin()]
            if best != old and filled[old].any() and costs.min() < costs[splits == old][0] - 1e-12:
                assigned[unit], moved = best, True
            filled[assigned[unit]] += units[unit]
        if not moved:
            break
    return assigned
