"""Divides images into splits or folds so that groups stay whole and classes are shared evenly."""

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

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
# Rounds in which single groups may move once all are placed; few ever need a third.
ROUNDS = 5


class Leak(NamedTuple):
    """What lies in two splits and should not.

    Attributes:
      kind: what the images share: `group`, `duplicate` (the pixels) or `near_duplicate` (the looks).
      splits: in alphabetical order, at least two.
      names: of all images that share it, those of one split too, in alphabetical order.
      detail: one clause that names values.
    """

    kind: str
    splits: tuple[str, ...]
    names: tuple[str, ...]
    detail: str


def assign(
    summaries: Sequence[Summary],
    *,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
    folds: int | None = None,
    by: Literal["group", "image"] = "group",
) -> dict[str, str]:
    """Gives every image a split.

    Images of one group stay together, and so do images that are the same or look so, whatever their group.
    Groups are placed one by one, the largest first, where they bring images and instances of every class
    closest to the shares; then single groups move as long as that comes closer. An image that has a split
    keeps it, and its group follows.

    Args:
      summaries: of all images, with different names.
      shares: of each split, at least 0, with the sum 1; `SHARES` if None. Not used with `folds`.
      seed: decides among groups of about the same size. The result depends on it and on the images, not on
        their order.
      folds: makes `fold_0`, `fold_1`, ... of equal shares instead, for cross-validation; an image that has
        a split keeps it, such as a test set of its own.
      by: `image` ignores the groups.

    Returns:
      The split of each image, by its name.

    Raises:
      InputError: if shares or folds make no sense, or there are fewer groups than splits to fill.
    """
    target = _targets(shares, folds)
    summaries = sorted(summaries, key=lambda summary: summary.name)
    for summary, other in pairwise(summaries):
        if summary.name == other.name:
            raise InputError(f"two images are called {summary.name}: rename one of them")
    units = _units(summaries, by)
    split_of = _given(units)
    free = [unit for unit in units if unit[0].name not in split_of]
    needed = [name for name in target if target[name] > 0 and name not in split_of.values()]
    # Splits that the user gave to all images are complete, whatever the shares.
    if len(free) < len(needed) and (free or folds is not None):
        raise InputError(
            f"{len(free)} groups without a split cannot fill {', '.join(needed)}: name finer groups, ask for"
            " fewer splits, or split by image"
        )
    content = _content(summaries)
    filled = {split: np.zeros(content.shape[1]) for split in (*target, *split_of.values())}
    row_of = {summary.name: row for summary, row in zip(summaries, content, strict=True)}
    for name, split in split_of.items():
        filled[split] += row_of[name]
    # What the user put into splits of other names is not there to be shared.
    total = 1 - sum((filled[split] for split in filled if split not in target), np.zeros(content.shape[1]))
    places = _place(
        [sum(row_of[summary.name] for summary in unit) for unit in free],
        np.array([filled[split] for split in target]),
        np.outer(list(target.values()), total),
        np.random.default_rng(seed),
    )
    for unit, place in zip(free, places, strict=True):
        split_of |= {summary.name: list(target)[place] for summary in unit}
    return {summary.name: split_of[summary.name] for summary in summaries}


def leaks(summaries: Sequence[Summary]) -> list[Leak]:
    """Finds what lies in two splits: groups, images that are the same, images that look alike.

    Args:
      summaries: with their splits; those without one are left out.

    Returns:
      All leaks, groups first. Images that look alike are named once, with all that a chain of resemblances
      joins.
    """
    summaries = sorted((s for s in summaries if s.split is not None), key=lambda summary: summary.name)
    found = []
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
                found.append(Leak(kind, splits, names, detail.format(shared[0])))
    return found


def digest(split_of: Mapping[str, str]) -> str:
    """The sha256 of an assignment: two are the same if and only if their digests are.

    Args:
      split_of: the split of each image, by its name.

    Returns:
      Hexadecimal, of the sorted lines `name, tab, split`.
    """
    lines = sorted(f"{name}\t{split}\n" for name, split in split_of.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _targets(shares: Mapping[str, float] | None, folds: int | None) -> dict[str, float]:
    if folds is not None:
        if folds < 2:
            raise InputError(f"folds is {folds}; cross-validation takes at least 2")
        return {f"fold_{index}": 1 / folds for index in range(folds)}
    shares = SHARES if shares is None else shares
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        given = ", ".join(f"{name} {share:g}" for name, share in shares.items()) or "none"
        raise InputError(f"the shares of splits are {given}; give numbers from 0 on whose sum is 1")
    return dict(shares)


def _shared(summaries: Sequence[Summary]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three keys of each image, each [N]: equal where images share the group, the pixels, the looks."""
    if not summaries:
        return (np.zeros(0, np.int64),) * 3
    group, duplicate = (
        np.unique([getattr(summary, field) for summary in summaries], return_inverse=True)[1]
        for field in ("group", "pixel_digest")
    )
    # Without cells, what images have in common is their illumination.
    prints = perceptual_of(summaries) * np.array([bool(s.areas) for s in summaries], np.int8)[:, None, None]
    return group, duplicate, resemblance(prints, threshold=SAME).cluster


def _units(summaries: Sequence[Summary], by: str) -> list[list[Summary]]:
    """What must stay together, in the order of its first name."""
    count = len(summaries)
    group, *looks = _shared(summaries)
    keys = [*looks] if by == "image" else [group, *looks]
    # A graph of images and of what they may share.
    offsets = count * np.arange(1, len(keys) + 1)
    shared = np.concatenate([key + offset for key, offset in zip(keys, offsets, strict=True)])
    images = np.tile(np.arange(count), len(keys))
    size = count * (len(keys) + 1)
    graph = coo_array((np.ones(len(images), bool), (images, shared)), (size, size))
    units = defaultdict(list)
    for summary, unit in zip(summaries, connected_components(graph, directed=False)[1], strict=False):
        units[unit].append(summary)
    return list(units.values())


def _given(units: Sequence[Sequence[Summary]]) -> dict[str, str]:
    """The splits of images that the user gave, and of what must stay with them."""
    split_of: dict[str, str] = {}
    for unit in units:
        given = [summary.split for summary in unit if summary.split is not None]
        if given:
            # Where the user tore a group apart, the rest of it goes where most of it is.
            usual = min(given, key=lambda split: (-given.count(split), split))
            split_of |= {summary.name: summary.split or usual for summary in unit}
    return split_of


def _content(summaries: Sequence[Summary]) -> np.ndarray:
    """[N, D] of the images and of each class's instances, what each image has as a share of all."""
    classes = sorted({index for summary in summaries for index in summary.areas})
    counts = np.array(
        [[1.0, *(len(summary.areas.get(index, ())) for index in classes)] for summary in summaries]
    ).reshape(len(summaries), 1 + len(classes))
    return counts / np.maximum(counts.sum(axis=0), 1)


def _place(
    contents: Sequence[np.ndarray], filled: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Chooses a split for each unit.

    Args:
      contents: U times [D], of each unit.
      filled: [S, D] the content of each split beforehand.
      wanted: [S, D] in the end.
      rng: for the order of units of about the same size.

    Returns:
      [U] integer.
    """
    filled, units = filled.copy(), np.array(contents).reshape(-1, filled.shape[1])
    splits = np.flatnonzero(wanted.any(axis=1))
    places = np.zeros(len(units), np.int64)
    sizes = np.floor(np.log2(np.maximum(units.sum(axis=1), 1e-12)))
    order = np.lexsort((rng.random(len(units)), -sizes))

    def cost(unit: np.ndarray) -> np.ndarray:
        """[S] by how much the squared distance to what is wanted grows where the unit is added."""
        gap = filled[splits] - wanted[splits]
        return ((gap + unit) ** 2 - gap**2).sum(axis=1)

    for count, unit in enumerate(order):
        costs = cost(units[unit])
        empty = ~filled[splits].any(axis=1)
        if len(order) - count <= empty.sum():  # every split gets something
            costs[~empty] = np.inf
        places[unit] = splits[costs.argmin()]
        filled[places[unit]] += units[unit]
    for _ in range(ROUNDS):
        moved = False
        for unit in order:
            home = places[unit]
            filled[home] -= units[unit]
            costs = cost(units[unit])
            best = splits[costs.argmin()]
            if best != home and filled[home].any() and costs.min() < costs[splits == home][0] - 1e-12:
                places[unit], moved = best, True
            filled[places[unit]] += units[unit]
        if not moved:
            break
    return places
