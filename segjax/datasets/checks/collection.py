"""Checks that compare the images of a data set with each other."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence

import numpy as np

from segjax.datasets.checks.findings import Finding
from segjax.datasets.checks.fingerprints import SAME, resemblance
from segjax.datasets.checks.summary import Summary, perceptual_of

# Fewer images or cells have no typical size, focus or area.
FEWEST_IMAGES = 10
FEWEST_CELLS = 50
# Fraction of images up to which a size is rare, and from which a size is typical.
RARE, TYPICAL = 0.05, 0.8
# Ratio of the pixels of an image to the median, or its inverse.
IMAGE_RATIO = 16.0
# Sharpness as a fraction of the median, and in standard deviations of its logarithm below it.
BLURRED_FRACTION, BLURRED_DEVIATIONS = 0.4, 3.5
# Areas of a class: interquartile ranges of the logarithm beyond a quartile, and ratio to the median.
AREA_RANGES, AREA_RATIO = 2.0, 8.0
# A name with at least this similarity is suggested for a missing file; number of names that are compared with
# a name, and that are suggested.
SIMILAR, COMPARED, SUGGESTED = 0.8, 100, 2
# If copies are in several splits, the first of these splits keeps its copy, so that test sets do not change.
KEEP_FIRST = ("test", "validation")

NamedFindings = Iterator[tuple[str, Finding]]


def check_set(summaries: Sequence[Summary]) -> dict[str, tuple[Finding, ...]]:
    """Compares all images of a data set.

    Args:
      summaries: summaries of the images that are not excluded, with unique names.

    Returns:
      The findings by name of the image; the order of the summaries does not matter.
    """
    summaries = sorted(summaries, key=lambda summary: summary.name)
    findings: dict[str, list[Finding]] = defaultdict(list)
    checks: tuple[Callable[[Sequence[Summary]], NamedFindings], ...] = (
        _duplicates,
        _near_duplicates,
        _shared_masks,
        _divided_groups,
        _channels,
        _dtypes,
        _sizes,
        _blurred,
        _areas,
    )
    for check in checks:
        for name, finding in check(summaries):
            findings[name].append(finding)
    return {name: tuple(ones) for name, ones in findings.items()}


def check_pairs(images: Collection[str], masks: Collection[str]) -> dict[str, tuple[Finding, ...]]:
    """Finds images without a mask and masks without an image.

    Args:
      images: keys of the images.
      masks: keys of the annotations.

    Returns:
      The finding of each key without a partner.
    """
    without_mask, without_image = set(images) - set(masks), set(masks) - set(images)
    by_numbers = [_by_numbers(keys) for keys in (without_image, without_mask)]
    return {
        key: (Finding(kind, f"no {other} is called {key}{_suggestion(key, candidates)}"),)
        for kind, other, keys, candidates in (
            ("missing_mask", "mask", without_mask, by_numbers[0]),
            ("missing_image", "image", without_image, by_numbers[1]),
        )
        for key in sorted(keys)
    }


def _numbers(key: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"[0-9]+", key)))


def _by_numbers(keys: Collection[str]) -> dict[tuple[int, ...], list[str]]:
    """Groups keys by the numbers in them; `img7` and `img007` have the same."""
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for key in sorted(keys):
        groups[_numbers(key)].append(key)
    return groups


def _suggestion(key: str, candidates: Mapping[tuple[int, ...], Sequence[str]]) -> str:
    """Suggests the partners with the most similar name; one with other numbers is of another image."""
    same = candidates.get(_numbers(key), ())
    if not same or len(same) > COMPARED:
        return ""
    words = re.sub(r"[0-9]+", "0", key).casefold()
    scores = {
        other: difflib.SequenceMatcher(None, words, re.sub(r"[0-9]+", "0", other).casefold()).ratio()
        for other in same
    }
    best = max(scores.values())
    closest = [other for other in same if scores[other] == best]
    return f"; did you mean {' or '.join(closest[:SUGGESTED])}?" if best >= SIMILAR else ""


def rank_of(split: str | None) -> int:
    """Returns the rank of a split: the copy in the split of lowest rank stays; training is last."""
    return KEEP_FIRST.index(split) if split in KEEP_FIRST else len(KEEP_FIRST) + (split == "train")


def _by(summaries: Sequence[Summary], key: Callable[[Summary], Hashable]) -> dict[Hashable, list[Summary]]:
    """Groups summaries by key; those with an empty key are skipped."""
    groups: dict[Hashable, list[Summary]] = defaultdict(list)
    for summary in summaries:
        if key(summary):
            groups[key(summary)].append(summary)
    return groups


def _duplicates(summaries: Sequence[Summary]) -> NamedFindings:
    # An image of unusual channels is left out, and cannot be the copy that stays.
    channels = _typical(Counter(summary.channels for summary in summaries))
    for same in _by(summaries, lambda summary: summary.pixel_digest).values():
        first, *copies = sorted(
            same,
            key=lambda summary: (summary.channels != channels, rank_of(summary.split), summary.name),
        )
        for copy in copies:
            mask = "" if copy.outline_digest == first.outline_digest else ", annotated differently"
            if copy.split == first.split:
                yield copy.name, Finding("duplicate", f"same pixels as {first.name}{mask}")
            else:
                detail = f"in {copy.split}, same pixels as {first.name} in {first.split}{mask}"
                yield copy.name, Finding("duplicate_across_splits", detail)


def _near_duplicates(summaries: Sequence[Summary]) -> NamedFindings:
    # One image represents its exact copies. Images without cells have only their illumination in common.
    unique = {
        summary.pixel_digest: summary
        for summary in sorted(
            (summary for summary in summaries if summary.areas),
            key=lambda summary: (rank_of(summary.split), summary.name),
            reverse=True,
        )
    }
    images = sorted(unique.values(), key=lambda summary: summary.name)
    order = sorted({(rank_of(summary.split), summary.split or "") for summary in images})
    ranks = [order.index((rank_of(summary.split), summary.split or "")) for summary in images]
    similar = resemblance(perceptual_of(images), np.array(ranks))
    for image, nearest, score, superior, superior_score in zip(
        images, similar.nearest, similar.score, similar.superior, similar.superior_score, strict=True
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


def _shared_masks(summaries: Sequence[Summary]) -> NamedFindings:
    for same in _by(summaries, lambda summary: summary.outline_digest).values():
        if len({summary.pixel_digest for summary in same}) > 1:
            for summary, other in zip(same, (*same[1:], same[0]), strict=True):
                count = sum(summary.counts.values())
                yield summary.name, Finding("shared_mask", f"{count} cells with the outlines of {other.name}")


def _divided_groups(summaries: Sequence[Summary]) -> NamedFindings:
    for group, members in _by(summaries, lambda summary: summary.group).items():
        splits = sorted({summary.split for summary in members if summary.split is not None})
        if len(splits) > 1:
            for summary in members:
                yield summary.name, Finding("group_in_several_splits", f"{group} is in {', '.join(splits)}")


def _channels(summaries: Sequence[Summary]) -> NamedFindings:
    return _unlike_most(summaries, "unusual_channels", lambda summary: summary.channels, "channels")


def _dtypes(summaries: Sequence[Summary]) -> NamedFindings:
    findings = list(_unlike_most(summaries, "unusual_dtype", lambda summary: summary.dtype, "pixels"))
    # If both types are common, the data set is mixed and no image is unusual.
    yield from findings if len(findings) <= (1 - TYPICAL) * len(summaries) else ()


def _unlike_most(
    summaries: Sequence[Summary], kind: str, value: Callable[[Summary], int | str], noun: str
) -> NamedFindings:
    counts = Counter(value(summary) for summary in summaries)
    typical = _typical(counts)
    for summary in summaries:
        if value(summary) != typical:
            detail = f"{value(summary)} {noun}, {counts[typical]} of {len(summaries)} images have {typical}"
            yield summary.name, Finding(kind, detail)


def _typical(counts: Mapping[int | str, int]) -> int | str:
    """Returns the most frequent value; of equal ones the smaller, so that order does not matter."""
    return min(counts, key=lambda each: (-counts[each], str(each)), default=0)


def _sizes(summaries: Sequence[Summary]) -> NamedFindings:
    if len(summaries) < FEWEST_IMAGES:
        return
    counts = Counter(tuple(sorted(summary.shape)) for summary in summaries)
    typical, most = max(counts.items(), key=lambda item: (item[1], item[0]))
    median = float(np.median([summary.shape[0] * summary.shape[1] for summary in summaries]))
    for summary in summaries:
        low, high = sorted(summary.shape)
        detail = f"{summary.shape[0]} x {summary.shape[1]}, "
        if counts[low, high] <= RARE * len(summaries) and most >= TYPICAL * len(summaries):
            detail += f"{most} of {len(summaries)} images are {typical[0]} x {typical[1]}"
        elif not median / IMAGE_RATIO <= low * high <= median * IMAGE_RATIO:
            detail += f"half of the images have {median:g} pixels or more"
        else:
            continue
        yield summary.name, Finding("unusual_size", detail)


def _blurred(summaries: Sequence[Summary]) -> NamedFindings:
    known = [(summary.name, summary.sharpness) for summary in summaries if summary.sharpness]
    if len(known) < FEWEST_IMAGES:
        return
    logs = np.log([score for _, score in known])
    median = np.median(logs)
    deviation = 1.4826 * np.median(np.abs(logs - median))
    limit = min(median + np.log(BLURRED_FRACTION), median - BLURRED_DEVIATIONS * deviation)
    for (name, score), value in zip(known, logs, strict=True):
        if value < limit:
            detail = f"sharpness {score:.3f}, the median is {np.exp(median):.3f}"
            yield name, Finding("blurred", detail)


def _areas(summaries: Sequence[Summary]) -> NamedFindings:
    for index in sorted({index for summary in summaries for index in summary.areas}):
        pooled = np.concatenate([summary.areas.get(index, ()) for summary in summaries])
        if len(pooled) < FEWEST_CELLS:
            continue
        lower, median, upper = np.quantile(pooled, (0.25, 0.5, 0.75))
        stretch = (upper / lower) ** AREA_RANGES
        low, high = min(lower / stretch, median / AREA_RATIO), max(upper * stretch, median * AREA_RATIO)
        for summary in summaries:
            areas, smallest = summary.areas.get(index, ()), summary.smallest.get(index, median)
            large = sum(area > high for area in areas)
            if large:
                detail = f"{large} of class {index}, one of {areas[-1]} pixels; the median is {median:g}"
                yield summary.name, Finding("large_instances", detail)
            if smallest < low:
                detail = f"one of class {index} has {smallest} pixels; the median is {median:g}"
                yield summary.name, Finding("small_instances", detail)
