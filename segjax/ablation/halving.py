"""Stops the trainings of a sweep that validate worst, at a few steps: synchronous successive halving.

At these steps, the rungs, trainings pause and only the best continue. Decisions depend on recorded scores
alone, which never change, so that all processes that share a sweep decide the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from segjax.ablation.measure import Advance, advance, best_score
from segjax.ablation.plan import Goal, Plan
from segjax.ablation.points import Point
from segjax.ablation.runs import FAILURE, RESULT, RUNNING, SweepFolder, read_entry, read_rungs
from segjax.errors import InputError
from segjax.experiment.results_folder import join_first
from segjax.experiment.sections import read_fit

Rows = Mapping[str, Sequence[Point]]


class _Reached(NamedTuple):
    """The scores of a point, by rung, and whether it is done, failed or stopped."""

    scores: Sequence[float | None]
    has_ended: bool

    def is_expected(self, rung: int) -> bool:
        """Returns whether it may still get a score."""
        return self.scores[rung] is None and not self.has_ended


class Halving(Plan):
    """Pauses trainings at rungs, where the best go on and the others stop; classical methods run.

    Points that differ in the seed only go on or stop together, by the mean of their scores. Points that fail
    have no score from then on.

    Args:
      points: all points of the sweep.
      sweep: its folder.
      eta: of every `eta` rows of points, one goes on.
      advance: trains a point up to a step.

    Raises:
      InputError: if `eta` is below 2, or a sweep of these points has no rung.
    """

    final = (*Plan.final, "stopped")

    def __init__(
        self, points: Iterable[Point], sweep: SweepFolder, eta: int, advance: Advance = advance
    ) -> None:
        if eta < 2:
            raise InputError(
                f"--halving={eta} must be at least 2: it is the number of points of which one goes on"
            )
        self._sweep, self._eta, self.advance = sweep, eta, advance
        rows: dict[str, list[Point]] = {}
        for point in points:
            if not point.is_classical:
                rows.setdefault(point.row, []).append(point)
        self._rows: Rows = rows
        self._steps = self._find_rungs()

    def _find_rungs(self) -> dict[Point, list[int]]:
        """Returns the rungs of each point, ascending; all points have equally many."""
        if not self._rows:
            raise InputError("--halving stops trainings, and no point of the sweep is trained: leave it out")
        most = rung_count(len(self._rows), self._eta)
        if not most:
            raise InputError(
                f"--halving={self._eta} needs at least {self._eta} trained points, seeds not counted, and the"
                f" sweep has {len(self._rows)}: leave it out, or lower it"
            )
        rungs = {}
        for point in (point for members in self._rows.values() for point in members):
            fit = read_fit(point.config)
            rungs[point] = rung_steps(fit.steps, fit.validate_every, self._eta, most)
            if not rungs[point]:
                raise InputError(
                    f"--halving needs a validation before step {fit.steps}, the last one, and the point"
                    f" {point.name} has none: give config.train.validate_every, which is"
                    f" {fit.validate_every}, a value above 0 and below config.steps"
                )
        count = min(map(len, rungs.values()))
        return {point: steps[-count:] for point, steps in rungs.items()}

    def next(self, point: Point) -> Goal:
        """Returns what is next for a point: a rung, to wait for the others there, to stop, or its end."""
        steps = self._steps.get(point, [])
        if steps and self._read(point).scores[0] is None:
            return Goal(pause=steps[0])
        reached = {other: self._read(other) for other in self._steps} if steps else {}
        alive = self._rows
        for rung, step in enumerate(steps):
            if reached[point].scores[rung] is None:
                return Goal(pause=step)
            others = [other for members in alive.values() for other in members]
            waits_for = [other for other in others if reached[other].is_expected(rung)]
            if waits_for:
                return Goal(waits_for=waits_for)
            alive = self._best(alive, {other: reached[other].scores[rung] for other in others})
            if point.row not in alive:
                return Goal(stop=step)
        return Goal()

    def _best(self, alive: Rows, scores: Mapping[Point, float | None]) -> Rows:
        """Returns the rows that go on after a rung; of equal scores, the first one in the sweep."""
        means: dict[str, float] = {}
        for row, members in alive.items():
            if known := [score for point in members if (score := scores[point]) is not None]:
                means[row] = float(np.mean(known))
        ranked = sorted(means, key=means.__getitem__, reverse=True)
        return {row: alive[row] for row in ranked[: math.ceil(len(ranked) / self._eta)]}

    def _read(self, point: Point) -> _Reached:
        folder = self._sweep.folder(point)
        # The end is read first: scores that another process notes meanwhile are those before it.
        is_done = (folder / RESULT).exists()
        has_ended = is_done or (folder / FAILURE).exists() or read_rungs(folder)["state"] == "stopped"
        noted = read_rungs(folder)["scores"]
        scores = [noted.get(str(step)) for step in self._steps[point]]
        if is_done and None in scores:  # it ran to its end without a pause
            scores = [best_score(folder, step) for step in self._steps[point]]
        return _Reached(scores, has_ended)

    def describe(self) -> str:
        """Returns the rungs in one line."""
        count = len(self._rows)
        parts: list[str] = []
        for steps in zip(*self._steps.values(), strict=True):
            numbers = " or ".join(map(str, sorted(set(steps))))
            parts.append(f"{'the best ' if parts else ''}{count} up to step {numbers}")
            count = math.ceil(count / self._eta)
        return f"rungs, seeds counted as one: {', '.join(parts)}, the best {count} to the end"


def describe_waiting(waiting: Mapping[Point, Sequence[Point]], sweep: SweepFolder) -> str:
    """Returns in one sentence which points wait, and for which processes.

    Args:
      waiting: from `run_points`, not empty.
      sweep: the folder of the sweep.
    """
    awaited = {}
    for other in (other for others in waiting.values() for other in others):
        running = read_entry(sweep.folder(other) / RUNNING)
        owner = f"process {running['process']} on {running['host']}" if running else "no process runs it"
        awaited[other.folder] = f"{other.name} ({owner})"
    names = {point.folder: point.name for point in waiting}
    verb = "waits" if len(names) == 1 else "wait"
    return (
        f"{join_first(names)} {verb} for the validation scores of {join_first(awaited)}: give the same"
        " command again when these are there"
    )


def rung_count(rows: int, eta: int) -> int:
    """Returns how often rows can be divided by `eta`: the maximum number of rungs.

    >>> [rung_count(rows, 3) for rows in (2, 3, 8, 9)]
    [0, 1, 1, 2]
    """
    return 1 + rung_count(rows // eta, eta) if rows >= eta else 0


def rung_steps(steps: int, validate_every: int, eta: int, most: int) -> list[int]:
    """Returns the steps `steps / eta**k`, each rounded up to a validation, in ascending order.

    Args:
      steps: number of steps of the training.
      validate_every: steps between validations; 0 for none.
      eta: ratio of a rung to the one before.
      most: maximum number of rungs; the last ones are left.

    >>> rung_steps(900, 50, 3, 2), rung_steps(900, 450, 3, 2), rung_steps(900, 900, 3, 2)
    ([100, 300], [450], [])
    """
    if not validate_every:
        return []
    rungs = {-(-steps // (eta**power * validate_every)) * validate_every for power in range(1, most + 1)}
    return sorted(rung for rung in rungs if rung < steps)
