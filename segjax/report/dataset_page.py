"""The data set quality report: findings, actions taken and splits."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segjax.datasets.checks.findings import KINDS
from segjax.datasets.checks.pixels import QUANTILES
from segjax.datasets.checks.summary import Summary
from segjax.datasets.folder.decisions import Decision, Plan
from segjax.files import atomic_write, spreadsheet_text, write_json, write_text
from segjax.report.charts import bars, histogram
from segjax.report.page import class_legend, jpeg_uri, png_uri, render

# Maximum number of entries per kind of finding on the page; quality.json and decisions.csv list all.
NAMED = 8
LISTED = 500
# Maximum number of characters of a file name, each of up to four bytes; a class may have any name.
LONGEST = 60


def summary_dict(
    plan: Plan, class_names: Sequence[str], *, split_sha256: str | None = None
) -> dict[str, Any]:
    """Returns the content of the report as a JSON-compatible dict.

    Args:
      plan: the decision for every image.
      class_names: K names, background first.
      split_sha256: digest of the split, if known.

    Returns:
      "images", a count for each action; "findings", by kind, the names and details; "splits", of each the
      images, groups and instances by class; "leaks"; "annotations_without_image"; "class_names"; and
      "split_sha256".
    """
    by_kind: dict[str, list[dict[str, str]]] = {kind: [] for kind in KINDS}
    for decision in plan.decisions:
        for finding in decision.findings:
            by_kind[finding.kind].append(
                {"image": decision.item.key, "detail": finding.detail, "action": decision.action}
            )
    for key, finding in plan.orphan_masks:
        by_kind[finding.kind].append({"image": key, "detail": finding.detail, "action": "none"})
    actions = Counter(decision.action for decision in plan.decisions)
    return {
        "images": {name: actions[name] for name in ("kept", "repaired", "quarantined")},
        "findings": {kind: entries for kind, entries in by_kind.items() if entries},
        "splits": {
            split: _contents([one for one in plan.decisions if one.split == split], class_names)
            for split in plan.splits
        },
        "leaks": list(plan.leaks),
        "class_names": list(class_names),
        "split_sha256": split_sha256,
    }


def write_quality(
    folder: Path,
    plan: Plan,
    *,
    title: str,
    class_names: Sequence[str],
    applied: bool = True,
    warnings: Sequence[str] = (),
    sheets: Sequence[tuple[str, bytes]] = (),
    split_sha256: str | None = None,
) -> dict[str, Any]:
    """Writes `index.html`, `quality.json`, `decisions.csv`, and the histograms as PNG.

    Args:
      folder: report folder, created if missing.
      plan: the decision for every image.
      title: page title.
      class_names: K names, background first.
      applied: whether the decisions were carried out; a public data set is only inspected.
      warnings: sentences shown prominently at the top.
      sheets: names and PNG contents of contact sheets, written to the same folder.
      split_sha256: digest of the split, if known.

    Returns:
      The result of `summary_dict`.
    """
    about = summary_dict(plan, class_names, split_sha256=split_sha256)
    write_json(folder / "quality.json", about)
    _write_decisions(folder / "decisions.csv", plan.decisions)
    charts = _charts(plan, class_names)
    pictures = [*charts, *sheets]
    for stem, (_, content) in zip(_file_stems([name for name, _ in pictures]), pictures, strict=True):
        with atomic_write(folder / f"{stem}.png") as tmp_path:
            tmp_path.write_bytes(content)
    page = render(
        "quality.html",
        title=title,
        about=about,
        images=len(plan.decisions),
        applied=applied,
        findings=[
            (KINDS[kind], kind, entries[:NAMED], len(entries)) for kind, entries in about["findings"].items()
        ],
        warnings=[*warnings, *(f"The splits leak: {leak}." for leak in plan.leaks)],
        charts=[(name, png_uri(content)) for name, content in charts],
        sheets=[(name, jpeg_uri(np.asarray(Image.open(io.BytesIO(content))))) for name, content in sheets],
        decisions=[one for one in plan.decisions if one.findings][:LISTED],
        listed=LISTED,
        noted=sum(bool(one.findings) for one in plan.decisions),
        kinds=KINDS,
        legend=class_legend(class_names),
    )
    write_text(folder / "index.html", page)
    return about


def _file_stems(names: Sequence[str]) -> list[str]:
    """Returns a file name for each name, also where names of files do not differ by case.

    >>> _file_stems(["class a/b", "class a b", "class A b"])
    ['class_a_b', 'class_a_b_', 'class_A_b__']
    """
    stems: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w.-]", "_", name)[:LONGEST]
        while stem.casefold() in {other.casefold() for other in stems}:
            stem += "_"
        stems.append(stem)
    return stems


def _contents(decisions: Sequence[Decision], class_names: Sequence[str]) -> dict[str, Any]:
    summaries = [one.summary for one in decisions if one.summary is not None]
    return {
        "images": len(decisions),
        "groups": len({summary.group for summary in summaries}),
        "instances": {
            name: sum(summary.counts.get(index, 0) for summary in summaries)
            for index, name in enumerate(class_names[1:], start=1)
        },
    }


def _charts(plan: Plan, class_names: Sequence[str]) -> list[tuple[str, bytes]]:
    selected: list[Summary] = [
        one.summary for one in plan.decisions if one.split is not None and one.summary is not None
    ]
    colours = {name: index for index, name in enumerate(class_names)}
    named = list(enumerate(class_names[1:], start=1))
    areas = {name: [area for one in selected for area in one.areas.get(index, ())] for index, name in named}
    counts = {name: [one.counts.get(index, 0) for one in selected] for index, name in named}
    levels = {
        caption: [one.quantiles[QUANTILES.index(quantile)] / _range_of(one.dtype) for one in selected]
        for caption, quantile in (("darkest 1 %", 0.01), ("median", 0.5), ("brightest 1 %", 0.99))
    }
    total = {name: float(sum(counts[name])) for _, name in named}
    return [
        ("sizes", histogram(areas, title="Size of instances", unit="pixels", colours=colours)),
        ("counts", histogram(counts, title="Instances in an image", unit="instances", colours=colours)),
        ("intensities", histogram(levels, title="Intensity of images", unit="fraction of the type's range")),
        ("classes", bars(total, title="Instances of each class", colours=colours)),
    ]


def _range_of(dtype: str) -> float:
    """Returns the largest value of an integer type, and 1 for floats."""
    kind = np.dtype(dtype)
    return float(np.iinfo(kind).max) if kind.kind in "ui" else 1.0


def _write_decisions(path: Path, decisions: Sequence[Decision]) -> None:
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["image", "action", "split", "group", "findings"])
    for one in decisions:
        group = one.summary.group if one.summary is not None else one.item.group or ""
        findings = "; ".join(f"{finding.kind}: {finding.detail}" for finding in one.findings)
        cells = (one.item.key, one.action, one.split or "", group, findings)
        table.writerow(map(spreadsheet_text, cells))
    write_text(path, file.getvalue())


def format_counts(values: Mapping[str, int]) -> str:
    """Formats counts as `3 kept, 1 repaired`, omitting zeros."""
    return ", ".join(f"{count} {name}" for name, count in values.items() if count) or "none"
