"""What only shows when the images of a data set are seen beside each other."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from segjax.datasets.checks.findings import Finding
from segjax.datasets.checks.fingerprints import SAME, resemblance
from segjax.datasets.checks.summary import Summary, perceptual_of

# Fewer images have no usual size, focus or area.
FEWEST_IMAGES = 10
FEWEST_CELLS = 50
# A size that at most this share has, in a set where the usual one has at least that share.
RARE, USUAL = 0.05, 0.8
# Times the set's median of pixels, either way.
AREA_OF_IMAGE = 16.0
# Sharpness, as a share of the set's median, and in spreads (of the logarithm, as if normal) below it.
BLURRED_SHARE, BLURRED_SPREADS = 0.4, 3.5
# Areas of a class, in widths of its middle half (of the logarithm) beyond it, and times its median.
AREA_WIDTHS, AREA_RATIO = 2.0, 8.0
# Of copies in several splits the one in the split named first stays: test sets stay what they are.
KEEP_FIRST = ("test", "validation")

Found = Iterator[tuple[str, Finding]]


def check_set(summaries: Sequence[Summary]) -> dict[str, tuple[Finding, ...]]:
    """Examines a whole data set.

    Args:
      summaries: of the images that are to be kept, with different names; `split` where the user gave it.

    Returns:
      The findings of each image that has any, by its name. The result does not depend on the order.
    """
    summaries = sorted(summaries, key=lambda summary: summary.name)
    found: dict[str, list[Finding]] = defaultdict(list)
    checks: tuple[Callable[[Sequence[Summary]], Found], ...] = (
        _duplicates,
        _near_duplicates,
        _shared_masks,
        _torn_groups,
        _channels,
        _dtypes,
        _sizes,
        _blurred,
        _areas,
    )
    for check in checks:
        for name, finding in check(summaries):
            found[name].append(finding)
    return {name: tuple(findings) for name, findings in found.items()}


def check_pairs(images: Collection[str], masks: Collection[str]) -> dict[str, tuple[Finding, ...]]:
    """Finds images without a mask and masks without an image.

    Args:
      images: their keys.
      masks: the keys of what is annotated.

    Returns:
      The finding of each key that is on one side only.
    """
    return {
        key: (Finding(kind, f"no {other} is called {key}{_closest(key, candidates)}"),)
        for kind, other, keys, candidates in (
            ("missing_mask", "mask", set(images) - set(masks), set(masks) - set(images)),
            ("missing_image", "image", set(masks) - set(images), set(images) - set(masks)),
        )
        for key in sorted(keys)
    }


def _closest(key: str, candidates: Collection[str]) -> str:
    """A misspelt partner, where there are few enough to look through."""
    close = (
        difflib.get_close_matches(key, sorted(candidates), n=1, cutoff=0.8) if len(candidates) < 100 else []
    )
    return f"; is it {close[0]}?" if close else ""


def rank_of(split: str | None) -> int:
    """The place of a split among those whose images stay; training comes last."""
    return KEEP_FIRST.index(split) if split in KEEP_FIRST else len(KEEP_FIRST) + (split == "train")


def _by(summaries: Sequence[Summary], key: Callable[[Summary], Hashable]) -> dict[Hashable, list[Summary]]:
    """Groups images; what has no key is left out."""
    groups: dict[Hashable, list[Summary]] = defaultdict(list)
    for summary in summaries:
        if key(summary):
            groups[key(summary)].append(summary)
    return groups


def _duplicates(summaries: Sequence[Summary]) -> Found:
    for same in _by(summaries, lambda summary: summary.pixel_digest).values():
        kept, *copies = sorted(same, key=lambda summary: (rank_of(summary.split), summary.name))
        for copy in copies:
            drawn = "" if copy.outline_digest == kept.outline_digest else ", drawn differently"
            if copy.split == kept.split:
                yield copy.name, Finding("duplicate", f"same pixels as {kept.name}{drawn}")
            else:
                detail = f"in {copy.split}, same pixels as {kept.name} in {kept.split}{drawn}"
                yield copy.name, Finding("duplicate_across_splits", detail)


def _near_duplicates(summaries: Sequence[Summary]) -> Found:
    # Of exact copies one stands for all: the others are found already. Without cells, what images have in
    # common is their illumination.
    kept = {
        summary.pixel_digest: summary
        for summary in sorted(
            (summary for summary in summaries if summary.areas),
            key=lambda summary: (rank_of(summary.split), summary.name),
            reverse=True,
        )
    }
    images = sorted(kept.values(), key=lambda summary: summary.name)
    ranks = {
        split: rank for rank, split in enumerate(sorted({s.split for s in images}, key=_order_of_splits))
    }
    like = resemblance(perceptual_of(images), np.array([ranks[summary.split] for summary in images]))
    for image, nearest, score, superior, superior_score in zip(
        images, like.nearest, like.score, like.superior, like.superior_score, strict=True
    ):
        if superior_score >= SAME:
            other = images[superior]
            detail = f"in {image.split}, like {other.name} in {other.split}, similarity {superior_score:.3f}"
            yield image.name, Finding("near_duplicate_across_splits", detail)
        elif nearest >= 0:
            other = images[nearest]
            there = "" if other.split == image.split else f" in {other.split}"
            detail = f"like {other.name}{there}, similarity {score:.3f}"
            yield image.name, Finding("near_duplicate", detail)


def _order_of_splits(split: str | None) -> tuple[int, str]:
    return rank_of(split), split or ""


def _shared_masks(summaries: Sequence[Summary]) -> Found:
    for same in _by(summaries, lambda summary: summary.outline_digest).values():
        if len({summary.pixel_digest for summary in same}) > 1:
            for summary, other in zip(same, (*same[1:], same[0]), strict=True):
                count = sum(summary.counts.values())
                yield (
                    summary.name,
                    Finding("shared_mask", f"the outlines of {count} cells as in {other.name}"),
                )


def _torn_groups(summaries: Sequence[Summary]) -> Found:
    for group, members in _by(summaries, lambda summary: summary.group).items():
        splits = sorted({summary.split for summary in members if summary.split is not None})
        if len(splits) > 1:
            for summary in members:
                yield summary.name, Finding("group_in_several_splits", f"{group} is in {', '.join(splits)}")


def _channels(summaries: Sequence[Summary]) -> Found:
    return _unlike_most(summaries, "other_channels", lambda summary: summary.channels, "channels")


def _dtypes(summaries: Sequence[Summary]) -> Found:
    found = list(_unlike_most(summaries, "other_dtype", lambda summary: summary.dtype, "pixels"))
    # Where both types are common it is the data set that is mixed, not the image that is odd.
    yield from found if len(found) <= (1 - USUAL) * len(summaries) else ()


def _unlike_most(
    summaries: Sequence[Summary], kind: str, value: Callable[[Summary], int | str], noun: str
) -> Found:
    counts = Counter(value(summary) for summary in summaries)
    # Of equally many the smaller value counts as usual, so that the order of images plays no part.
    usual = min(counts, key=lambda each: (-counts[each], str(each)), default=0)
    for summary in summaries:
        if value(summary) != usual:
            detail = f"{value(summary)} {noun}, {counts[usual]} of {len(summaries)} images have {usual}"
            yield summary.name, Finding(kind, detail)


def _sizes(summaries: Sequence[Summary]) -> Found:
    if len(summaries) < FEWEST_IMAGES:
        return
    counts = Counter(tuple(sorted(summary.shape)) for summary in summaries)
    usual, most = max(counts.items(), key=lambda item: (item[1], item[0]))
    median = float(np.median([summary.shape[0] * summary.shape[1] for summary in summaries]))
    for summary in summaries:
        low, high = sorted(summary.shape)
        rare = counts[low, high] <= RARE * len(summaries) and most >= USUAL * len(summaries)
        size = f"{summary.shape[0]} x {summary.shape[1]}"
        if rare:
            detail = f"{size}, {most} of {len(summaries)} images are {usual[0]} x {usual[1]}"
            yield summary.name, Finding("odd_size", detail)
        elif not median / AREA_OF_IMAGE <= low * high <= median * AREA_OF_IMAGE:
            yield (
                summary.name,
                Finding("odd_size", f"{size}, half of the images have {median:g} pixels or more"),
            )


def _blurred(summaries: Sequence[Summary]) -> Found:
    known = [(summary.name, summary.sharpness) for summary in summaries if summary.sharpness]
    if len(known) < FEWEST_IMAGES:
        return
    logs = np.log([score for _, score in known])
    median = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - median))
    limit = min(median + np.log(BLURRED_SHARE), median - BLURRED_SPREADS * spread)
    for (name, score), value in zip(known, logs, strict=True):
        if value < limit:
            detail = f"sharpness {score:.3f}, the set's median is {np.exp(median):.3f}"
            yield name, Finding("blurred", detail)


class _Usual(NamedTuple):
    """The areas that are usual for a class, in pixels."""

    low: float
    median: float
    high: float


def _areas(summaries: Sequence[Summary]) -> Found:
    usual = {}
    for index in sorted({index for summary in summaries for index in summary.areas}):
        pooled = np.concatenate([summary.areas.get(index, ()) for summary in summaries])
        if len(pooled) >= FEWEST_CELLS:
            usual[index] = _usual(pooled)
    for summary in summaries:
        for index, areas in sorted(summary.areas.items()):
            if index not in usual:
                continue
            low, median, high = usual[index]
            large, small = sum(area > high for area in areas), summary.smallest.get(index, median)
            if large:
                detail = f"{large} of class {index}, one of {areas[-1]} pixels; the median is {median:g}"
                yield summary.name, Finding("large_cells", detail)
            if small < low:
                detail = f"one of class {index} has {small} pixels; the median is {median:g}"
                yield summary.name, Finding("small_cells", detail)


def _usual(areas: np.ndarray) -> _Usual:
    lower, median, upper = np.quantile(areas, (0.25, 0.5, 0.75))
    stretch = (upper / lower) ** AREA_WIDTHS
    return _Usual(
        min(lower / stretch, median / AREA_RATIO), float(median), max(upper * stretch, median * AREA_RATIO)
    )
