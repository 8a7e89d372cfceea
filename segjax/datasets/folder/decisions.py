"""What becomes of the images of a folder once all are looked at: kept or set aside, and in which split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from segjax.datasets import splits
from segjax.datasets.checks import KINDS, Finding, Summary, check_pairs, check_set, is_excluded
from segjax.datasets.folder.image_files import ImageFile
from segjax.datasets.folder.staging import Staging
from segjax.errors import InputError

# Of the images that a leak is about.
NAMED = 4

Action = Literal["kept", "repaired", "quarantined"]


@dataclasses.dataclass(frozen=True)
class Decision:
    """What becomes of one image.

    Attributes:
      item: the image.
      findings: of it, in the order in which they were made.
      summary: what is known of it, None where it could not be read.
      split: that it goes to, None where it is set aside.
      action: what was done.
    """

    item: ImageFile
    findings: tuple[Finding, ...]
    summary: Summary | None
    split: str | None
    action: Action


@dataclasses.dataclass(frozen=True)
class Plan:
    """What becomes of a folder.

    Attributes:
      decisions: of every image, by key.
      strays: the keys of annotations without image, and the finding that says so.
      leaks: what one split says of another, one sentence each; empty unless the user has split so.
    """

    decisions: tuple[Decision, ...]
    strays: tuple[tuple[str, Finding], ...]
    leaks: tuple[str, ...]

    @property
    def splits(self) -> dict[str, list[ImageFile]]:
        """The images that are kept, by split: train, validation, test, then any others."""
        order = ("train", "validation", "test")
        names = {decision.split for decision in self.decisions if decision.split is not None}
        ordered = sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
        return {
            name: [decision.item for decision in self.decisions if decision.split == name] for name in ordered
        }


def decide(
    items: Sequence[ImageFile],
    staging: Staging,
    *,
    annotated: frozenset[str],
    shares: Mapping[str, float],
    by: Literal["group", "image"],
    folds: int | None,
    seed: int,
    accept: frozenset[str] = frozenset(),
) -> Plan:
    """Compares all images with each other, and splits those that stay.

    Images of one group, and images that look alike, go to one split, unless the user has said otherwise.

    Args:
      items: all of a folder, all staged.
      staging: what was found out about each.
      annotated: the keys of all annotations.
      shares: of each split.
      by: whether groups stay whole, or images are split one by one.
      folds: if given, as many splits for cross-validation instead.
      seed: of the split.
      accept: kinds of findings for which an image is not set aside.

    Returns:
      The plan.

    Raises:
      InputError: if no image is left, or there are too few groups for the split.
    """
    keys = {item.key for item in items}
    pairs = check_pairs(keys, annotated)
    findings: dict[str, list[Finding]] = {}
    summaries: dict[str, Summary] = {}
    for item in items:
        about = staging.find(item)
        assert about is not None, item
        findings[item.name] = [Finding(*finding) for finding in about["findings"]]
        findings[item.name] += pairs.get(item.key, ())
        if about["summary"] is not None:
            summary = Summary.from_json(about["summary"])
            summaries[item.name] = dataclasses.replace(summary, split=item.split)
    for name, found in check_set(list(summaries.values())).items():
        said = {finding.kind for finding in findings[name]}
        findings[name] += [finding for finding in found if finding.kind not in said]
    kept = {name: summary for name, summary in summaries.items() if not is_excluded(findings[name], accept)}
    if not kept:
        first = next((found[0] for found in findings.values() if found), None)
        reason = f", the first for this: {KINDS[first.kind].title}, {first.detail}" if first else ""
        raise InputError(f"all {len(items)} images were set aside{reason}")
    split_of = splits.assign(list(kept.values()), shares=shares, by=by, seed=seed, folds=folds)
    split = [dataclasses.replace(summary, split=split_of[name]) for name, summary in kept.items()]
    return Plan(
        decisions=tuple(
            Decision(
                item,
                tuple(findings[item.name]),
                summaries.get(item.name),
                split_of.get(item.name),
                _action(findings[item.name], kept=item.name in kept),
            )
            for item in items
        ),
        strays=tuple((key, pairs[key][0]) for key in sorted(annotated - keys) if key in pairs),
        leaks=_sentences(split),
    )


def compare(decisions: Sequence[Decision]) -> Plan:
    """What can be said of images that are split already: findings and leaks, and nothing is done about them.

    Args:
      decisions: of every image, each with its summary.

    Returns:
      The plan, with what the comparison of all has found.
    """
    summaries = [one.summary for one in decisions if one.summary is not None]
    found = check_set(summaries)
    return Plan(
        decisions=tuple(
            dataclasses.replace(one, findings=(*one.findings, *found.get(one.item.name, ())))
            for one in decisions
        ),
        strays=(),
        leaks=_sentences(summaries),
    )


def _sentences(summaries: Sequence[Summary]) -> tuple[str, ...]:
    """Of each leak what it is, its first images, and the splits that they are in."""
    return tuple(
        f"{leak.detail}, {', '.join(leak.names[:NAMED])}{' ...' if len(leak.names) > NAMED else ''} in"
        f" {' and '.join(leak.splits)}"
        for leak in splits.leaks(summaries)
    )


def _action(findings: Sequence[Finding], *, kept: bool) -> Action:
    if not kept:
        return "quarantined"
    return "repaired" if any(KINDS[finding.kind].action == "repair" for finding in findings) else "kept"
