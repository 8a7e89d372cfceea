"""Decides which images are selected, repaired or quarantined, and their splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from segjax.datasets import splits
from segjax.datasets.checks.collection import check_pairs, check_set
from segjax.datasets.checks.findings import KINDS, Finding, is_excluded
from segjax.datasets.checks.summary import Summary
from segjax.datasets.folder.image_files import ImageFile
from segjax.datasets.folder.staging import Staging
from segjax.errors import InputError

# Maximum number of images that the description of a leak names.
NAMED = 4

Action = Literal["kept", "repaired", "quarantined"]


@dataclasses.dataclass(frozen=True)
class Decision:
    """The decision for one image.

    Attributes:
      item: the image.
      findings: its findings, in the order of the checks.
      summary: its summary, None if it could not be read.
      split: its split, None if it is quarantined.
      action: how the image was handled.
    """

    item: ImageFile
    findings: tuple[Finding, ...]
    summary: Summary | None
    split: str | None
    action: Action


@dataclasses.dataclass(frozen=True)
class Plan:
    """The decisions for a folder.

    Attributes:
      decisions: the decision for every image, by key.
      orphan_masks: keys of annotations without an image, each with its finding.
      leaks: leaks between splits, one sentence each; empty unless the user chose the splits.
      problem: why there is no split although images are selected, empty if there is one.
    """

    decisions: tuple[Decision, ...]
    orphan_masks: tuple[tuple[str, Finding], ...]
    leaks: tuple[str, ...]
    problem: str = ""

    @property
    def splits(self) -> dict[str, list[ImageFile]]:
        """The selected images by split: train, validation, test, then any others."""
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
    fractions: Mapping[str, float],
    by: Literal["group", "image"],
    folds: int | None,
    seed: int,
    accept: frozenset[str] = frozenset(),
) -> Plan:
    """Compares all images with each other, and splits those that are not quarantined.

    Images of one group and near duplicates go to one split, unless the user chose their splits.

    Args:
      items: all images of a folder, all staged.
      staging: their check results.
      annotated: keys of all annotations.
      fractions: fraction of each split.
      by: `group` keeps groups together, `image` splits image by image.
      folds: number of splits for cross-validation instead, see `splits.assign`.
      seed: random seed of the split.
      accept: kinds of findings that do not exclude an image.

    Returns:
      The plan. It has no split if no image is left, or if there are too few groups for the splits.
    """
    keys = {item.key for item in items}
    pairs = check_pairs(keys, annotated)
    findings: dict[str, list[Finding]] = {}
    summaries: dict[str, Summary] = {}
    for item in items:
        result = staging.find(item)
        assert result is not None, item
        findings[item.name] = [Finding(*finding) for finding in result["findings"]]
        findings[item.name] += pairs.get(item.key, ())
        if result["summary"] is not None:
            summary = Summary.from_json(result["summary"])
            summaries[item.name] = dataclasses.replace(summary, split=item.split)
    for name, set_findings in check_set(list(summaries.values())).items():
        known = {finding.kind for finding in findings[name]}
        findings[name] += [finding for finding in set_findings if finding.kind not in known]
    selected = {
        name: summary for name, summary in summaries.items() if not is_excluded(findings[name], accept)
    }
    split_of: dict[str, str] = {}
    problem = ""
    try:
        if selected:
            split_of = splits.assign(
                list(selected.values()), fractions=fractions, by=by, seed=seed, folds=folds
            )
    except InputError as error:
        problem = str(error)
    split = [dataclasses.replace(summary, split=split_of.get(name)) for name, summary in selected.items()]
    return Plan(
        decisions=tuple(
            Decision(
                item,
                tuple(findings[item.name]),
                summaries.get(item.name),
                split_of.get(item.name),
                _action(findings[item.name], is_selected=item.name in selected),
            )
            for item in items
        ),
        orphan_masks=tuple((key, pairs[key][0]) for key in sorted(annotated - keys) if key in pairs),
        leaks=_sentences(split),
        problem=problem,
    )


def compare(decisions: Sequence[Decision]) -> Plan:
    """Compares images that are split already, and adds findings and leaks without acting on them.

    Args:
      decisions: a decision with a summary for every image.
    """
    summaries = [one.summary for one in decisions if one.summary is not None]
    set_findings = check_set(summaries)
    return Plan(
        decisions=tuple(
            dataclasses.replace(one, findings=(*one.findings, *set_findings.get(one.item.name, ())))
            for one in decisions
        ),
        orphan_masks=(),
        leaks=_sentences(summaries),
    )


def _sentences(summaries: Sequence[Summary]) -> tuple[str, ...]:
    """Describes each leak by its reason, its first images and their splits."""
    return tuple(
        f"{leak.detail}, {', '.join(leak.names[:NAMED])}{' ...' if len(leak.names) > NAMED else ''} in"
        f" {' and '.join(leak.splits)}"
        for leak in splits.leaks(summaries)
    )


def _action(findings: Sequence[Finding], *, is_selected: bool) -> Action:
    if not is_selected:
        return "quarantined"
    return "repaired" if any(KINDS[finding.kind].action == "repair" for finding in findings) else "kept"
