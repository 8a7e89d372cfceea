"""Makes the table of a sweep from the results of its points."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.ablation.measure import Evaluating
from segjax.ablation.points import Point, command_of, labels, text_of, varying_fields, without_seed
from segjax.ablation.robustness import read_result
from segjax.ablation.runs import ABOUT, FAILURE, SweepFolder, read_entry, read_rungs, state_of
from segjax.ablation.sweeps import Overrides
from segjax.evaluation.statistics import by_group, compare, interval, pooled, ranks
from segjax.experiment.figures import ABSENT
from segjax.report.ablation_rows import AblationReport, Costs, Row, RowScore
from segjax.report.table import format_score
from segjax.train.log import read_log

COSTS = [field.name for field in dataclasses.fields(Costs)]
HARDWARE = ("device", "cores", "devices", "python", "segjax", "jax")
# Maximum number of points of a learning curve.
CURVE = 200
Result = Mapping[str, Any]


class Entry(NamedTuple):
    """A point of the sweep, or one that an earlier version of the sweep had.

    Attributes:
      overrides: its fields and their values.
      folder: its folder.
      absent_row: what it shares with points of other seeds if the sweep no longer has it, else "".
    """

    overrides: Overrides
    folder: Path
    absent_row: str = ""

    @property
    def is_present(self) -> bool:
        """Whether the sweep still has it."""
        return not self.absent_row

    @property
    def row(self) -> str:
        """What it shares with the entries of the same row."""
        return f"{self.absent_row} {text_of(without_seed(self.overrides))}"


class Counts(NamedTuple):
    """The counts behind the scores of a row.

    Attributes:
      images: the names of the images.
      scores: [S, G, 2] numerators and denominators of the groups, by score.
    """

    images: Sequence[str] = ()
    scores: Mapping[str, np.ndarray] = {}


def make_rows(
    points: Sequence[Point], sweep: SweepFolder, *, score: str, evaluating: Evaluating
) -> tuple[list[Row], list[Result]]:
    """Makes a row of all points that differ in the seed only; those that are not done have a state.

    Args:
      points: the points; the first is the baseline.
      sweep: the folder of the sweep.
      score: name of the score that ranks the rows.
      evaluating: the images that are evaluated.

    Returns:
      The rows, and the results of the finished points.
    """
    entries = [Entry(point.overrides, sweep.folder(point)) for point in points]
    for folder in sweep.others(points):
        about = read_entry(folder / ABOUT) or {}
        overrides = about.get("overrides")
        if isinstance(overrides, dict) and state_of(folder) == "done":
            # Points of earlier versions of segjax do not say which config they had: each is a row of its own.
            entries.append(Entry(overrides, folder, about.get("row_key") or folder.name))
    fields = varying_fields([entry.overrides for entry in entries])
    groups: dict[str, list[Entry]] = {}
    names = labels(entry.overrides for entry in entries)
    name_of: dict[str, str] = {}
    for name, entry in zip(names, entries, strict=True):
        groups.setdefault(entry.row, []).append(entry)
        name_of[entry.row] = name
    rows: list[Row] = []
    finished: list[Result] = []
    baseline = Counts()
    for key, members in groups.items():
        results = [done for entry in members if (done := read_result(entry.folder)) is not None]
        counts = _counts(results)
        # Each file is read once: another process may resume a point that pauses at any moment.
        rungs = [read_rungs(entry.folder) for entry in members]
        states = [state_of(entry.folder, rungs=read) for entry, read in zip(members, rungs, strict=True)]
        is_stopped = "stopped" in states
        compared = baseline if rows and not is_stopped else None
        scores = {name: _row_score(name, counts, compared) for name in counts.scores}
        baseline = baseline if rows else counts
        values = members[0].overrides
        rows.append(
            Row(
                name_of[key],
                {field: str(values[field]) for field in fields if field in values},
                _status(members, states, rungs),
                len(results),
                scores,
                costs=Costs(**{cost: _mean(results, cost) for cost in COSTS}),
                curve=_curve(members[0].folder),
                worst_perturbation=" or ".join(
                    sorted({r["worst_perturbation"] for r in results if "worst_perturbation" in r})
                ),
                is_stopped=is_stopped,
                is_present=members[0].is_present,
                # No command evaluates a part of a split.
                command=command_of(values, evaluating.split) if evaluating.images is None else "",
            )
        )
        finished += results
    ranked = [np.nan if row.is_stopped or score not in row.scores else row.scores[score].mean for row in rows]
    order = ranks([round(mean, 3) for mean in ranked])
    return [dataclasses.replace(row, rank=rank) for row, rank in zip(rows, order, strict=True)], finished


def make_report(
    points: Sequence[Point],
    sweep: SweepFolder,
    *,
    score: str,
    evaluating: Evaluating,
    title: str,
    question: str,
    command: str,
) -> AblationReport:
    """Makes the report of a sweep; the arguments are those of `make_rows` and `AblationReport`."""
    rows, results = make_rows(points, sweep, score=score, evaluating=evaluating)
    images = _images(results, evaluating.split)
    return AblationReport(title, question, rows, score, images, command, _environment(results))


def _status(entries: Sequence[Entry], states: Sequence[str], rungs: Sequence[Mapping[str, Any]]) -> str:
    """Returns "done", or what is missing and why."""
    parts = [] if entries[0].is_present else [ABSENT]
    if len(states) > 1 and set(states) != {"done"}:
        parts.append(f"{states.count('done')} of {len(states)} done")
    for state in dict.fromkeys(states):
        if state == "failed":
            folder = entries[states.index(state)].folder
            parts.append(f"failed: {(read_entry(folder / FAILURE) or {}).get('reason', 'without a reason')}")
        elif state in ("stopped", "paused"):
            same = [read for own, read in zip(states, rungs, strict=True) if own == state]
            parts.append(f"{state} {_at_rung(same)}")
        elif state != "done":
            parts.append(state)
    return "; ".join(parts) or "done"


def _at_rung(rungs: Sequence[Mapping[str, Any]]) -> str:
    """Returns where seeds stopped or pause, with the mean of their scores."""
    step = max(entry["step"] for entry in rungs)
    score = float(np.mean([entry["scores"][str(entry["step"])] for entry in rungs]))
    return f"at step {step} with the validation score {format_score(score)}"


def _counts(results: Sequence[Result]) -> Counts:
    """Returns the counts of the seeds; they have the same images."""
    if not results:
        return Counts()
    images = sorted(results[0]["ratios"])
    groups = [results[0]["groups"][image] for image in images]
    same = [result["ratios"] for result in results if sorted(result["ratios"]) == images]
    scores = {}
    for name in dict.fromkeys(name for ratios in same for name in ratios[images[0]]):
        # Only one seed has the score of perturbed images.
        seeds = [ratios for ratios in same if name in ratios[images[0]]]
        scores[name] = by_group(
            np.array([[ratios[image][name] for image in images] for ratios in seeds]), groups
        )
    return Counts(images, scores)


def _row_score(name: str, counts: Counts, baseline: Counts | None) -> RowScore:
    """Returns a score, compared with that of the baseline if it has the same images."""
    values = counts.scores[name]
    seeds = pooled(values)
    bounds = interval(values)
    score = RowScore(
        float(seeds.mean()),
        float(seeds.std(ddof=1)) if len(seeds) > 1 else None,
        None if bounds is None else bounds[0],
    )
    if baseline is None or baseline.images != counts.images or name not in baseline.scores:
        return score
    difference = compare(values, baseline.scores[name])
    return dataclasses.replace(
        score,
        difference=difference.value,
        difference_interval=difference.interval,
        p_value=difference.p_value,
        detectable=difference.detectable,
    )


def _mean(results: Sequence[Result], cost: str) -> float | None:
    values = [result[cost] for result in results if result.get(cost) is not None]
    return float(np.mean(values)) if values else None


def _curve(folder: Path) -> list[tuple[float, float]]:
    """Returns steps and losses of a run, thinned out."""
    points = [
        (float(line["step"]), float(line["train/loss"]))
        for line in read_log(folder / "log.jsonl")
        if line.get("train/loss") is not None
    ]
    return points[:: max(1, -(-len(points) // CURVE))]


def _images(results: Iterable[Result], split: str) -> str:
    """Returns what was evaluated, such as "15 images of the test split in 6 groups"."""
    kinds = {
        f"{len(result['groups'])} images of the {split} split"
        + (
            f" in {groups} groups"
            if (groups := len(set(result["groups"].values()))) < len(result["groups"])
            else ""
        )
        for result in results
    }
    return " or ".join(sorted(kinds)) or "no image yet"


def _environment(results: Iterable[Result]) -> list[str]:
    lines = (
        ", ".join(
            f"{name} {result['environment'][name]}" for name in HARDWARE if name in result["environment"]
        )
        for result in results
    )
    return sorted(set(lines))
