"""Runs the points of a sweep in a folder: claims each by a lock, repeats nothing, survives failures.

Every point has a folder of its own. There, `result.json` is the result of a finished point, `failure.json`
says why a point failed, and `running.json` names the process that works on the point, or died at it.
`rungs.json` has the validation scores with which the point was compared, and whether it pauses or stopped.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import platform
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import logging
from filelock import FileLock, Timeout
from tqdm import tqdm

from segjax.ablation.measure import LOG, Evaluating, Measure
from segjax.ablation.plan import Goal, Plan
from segjax.ablation.points import Point
from segjax.errors import InputError, Interrupted, first_line
from segjax.files import TEMPORARY, read_json_object, write_json
from segjax.train.log import read_log

RESULT, FAILURE, RUNNING, RUNGS, ABOUT, LOCK = (
    "result.json",
    "failure.json",
    "running.json",
    "rungs.json",
    "point.json",
    "point.lock",
)
POINTS = "points"
# Seconds that a process waits for the lock of a point, as others take it for a moment to see the state.
CLAIM_TIMEOUT = 0.2
# A process that dies this often at the same point counts as a failure.
MAX_DEATHS = 3
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclasses.dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep.

    Attributes:
      workdir: the folder.
    """

    workdir: Path

    def folder(self, point: Point) -> Path:
        """Returns the folder of a point, which may have been made under another readable name."""
        made = sorted((self.workdir / POINTS).glob(f"*-{point.key}"))
        return made[0] if made else self.workdir / POINTS / point.folder

    def others(self, points: Iterable[Point]) -> list[Path]:
        """Returns the folders of points that the sweep no longer has."""
        present = {point.key for point in points}
        folders = sorted((self.workdir / POINTS).glob(f"*/{ABOUT}"))
        return [path.parent for path in folders if path.parent.name.rpartition("-")[2] not in present]

    def claim_for(self, sweep: dict[str, Any]) -> None:
        """Writes which sweep the folder belongs to.

        Raises:
          InputError: if it belongs to another one.
        """
        path = self.workdir / "sweep.json"
        entries = [*self.workdir.iterdir()] if self.workdir.is_dir() else []
        # Another process may start the same sweep at this moment.
        if not path.exists() and not all(TEMPORARY.fullmatch(entry.name) for entry in entries):
            raise InputError(f"{self.workdir} has other files and no sweep: choose another --workdir")
        if path.exists():
            earlier = read_entry(path) or {}
            different = [name for name in sweep if earlier.get(name) != sweep[name]]
            if different:
                name = different[0]
                raise InputError(
                    f"{self.workdir} belongs to another sweep ({name} was {earlier.get(name)}, is"
                    f" {sweep[name]}): choose another --workdir"
                )
        else:
            write_json(path, sweep)


def read_entry(path: Path) -> dict[str, Any] | None:
    """Returns the content of a JSON file; None if it is missing or damaged."""
    try:
        return read_json_object(path)
    except (OSError, ValueError):
        return None


def state_of(folder: Path, *, is_claimed: bool = False, rungs: Mapping[str, Any] | None = None) -> str:
    """Returns "done", "failed", "stopped", "paused", "running", "interrupted" or "not run".

    Args:
      folder: the folder of a point.
      is_claimed: whether this process has its lock.
      rungs: from `read_rungs`, if they were read before.
    """
    if read_entry(folder / RESULT) is not None:
        return "done"
    if (folder / FAILURE).exists():
        return "failed"
    if (state := (rungs or read_rungs(folder))["state"]) != "running":
        return state
    if not (folder / ABOUT).exists():
        return "not run"
    if is_claimed:
        return "interrupted"
    try:
        with FileLock(folder / LOCK, timeout=0):
            return "interrupted"
    except Timeout:
        return "running"


def read_rungs(folder: Path) -> dict[str, Any]:
    """Returns what a point has reached: its `state`, the `step` of that, and `scores` by step, as texts."""
    return {"state": "running", "step": 0, "scores": {}} | (read_entry(folder / RUNGS) or {})


def run_points(
    points: Sequence[Point],
    sweep: SweepFolder,
    measure: Measure,
    evaluating: Evaluating,
    *,
    retry: bool = False,
    finished: Callable[[], None] = lambda: None,
    plan: Plan | None = None,
) -> dict[Point, Sequence[Point]]:
    """Runs the points that are neither done nor in the hands of another process.

    Args:
      points: the points.
      sweep: the folder of the sweep.
      measure: measures a point.
      evaluating: what is evaluated.
      retry: whether failed points, and those that the plan stopped, count as interrupted.
      finished: called after each run of a point.
      plan: how far each point runs; by default to its end.

    Returns:
      The points that wait for others, which other processes run, with these.

    Raises:
      OSError: if the disk is full, which is no failure of the point.
      Interrupted: after SIGTERM or Ctrl-C; the same command resumes.
    """
    plan = plan or Plan()
    if retry:
        _forget_ends(map(sweep.folder, points))
    left = [point for point in points if state_of(sweep.folder(point)) not in plan.final]
    waiting: dict[Point, Sequence[Point]] = {}
    with tqdm(
        total=len(points), initial=len(points) - len(left), desc="points", unit="point", dynamic_ncols=True
    ) as bar:
        while left:
            # A point that is claimed or waits now may be free after this pass.
            later: list[Point] = []
            waiting, has_moved = {}, False
            for point in left:
                folder, goal = sweep.folder(point), plan.next(point)
                if goal.waits_for:
                    waiting[point] = goal.waits_for
                    later.append(point)
                    continue
                with claimed(folder) as is_claimed:
                    has_moved |= is_claimed
                    # Another process may have run it a moment ago.
                    if is_claimed and _is_left(folder, plan) and plan.next(point) == goal:
                        bar.set_postfix_str(folder.name[:40])
                        _run(point, folder, goal, plan, measure, evaluating)
                        finished()
                    if not is_claimed or _is_left(folder, plan):
                        later.append(point)
                    else:
                        bar.update()
            left = later if has_moved else []
    return waiting


def _is_left(folder: Path, plan: Plan) -> bool:
    """Returns whether a point, whose lock this process has, is in no final state."""
    return state_of(folder, is_claimed=True) not in plan.final


def _forget_ends(folders: Iterable[Path]) -> None:
    """Makes points that failed or stopped, and are in no other hands, points that were interrupted."""
    for folder in folders:
        is_stopped = read_rungs(folder)["state"] == "stopped"
        if is_stopped or any((folder / name).exists() for name in (FAILURE, RUNNING)):
            with claimed(folder) as is_claimed:
                if is_claimed:
                    for name in (FAILURE, RUNNING):
                        (folder / name).unlink(missing_ok=True)
                    _mark(folder, "running")


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Yields whether this process may work in the folder of a point; the lock dies with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=CLAIM_TIMEOUT)
    try:
        lock.acquire(poll_interval=CLAIM_TIMEOUT / 20)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _mark(folder: Path, state: str, **rung: Any) -> None:
    """Notes the state of a point, and its score at a rung if it has one."""
    rungs = read_rungs(folder)
    if rungs["state"] != state or rung:
        write_json(folder / RUNGS, rungs | rung | {"state": state})


def _run(
    point: Point, folder: Path, goal: Goal, plan: Plan, measure: Measure, evaluating: Evaluating
) -> None:
    """Does what is next for a point; its lock is held."""
    if goal.stop is not None:
        _mark(folder, "stopped", step=goal.stop)
        return
    deaths, progress = _deaths(folder)
    _mark(folder, "running")
    about = {"overrides": dict(point.overrides), "row_key": point.row_key}
    write_json(folder / ABOUT, json.loads(json.dumps(about, default=str)))
    try:
        if deaths >= MAX_DEATHS:
            raise InputError(
                f"its process died {deaths} times without progress, probably out of memory: use a smaller"
                " network, patch size or batch size"
            )
        process = {"process": os.getpid(), "host": platform.node()}
        write_json(folder / RUNNING, process | {"deaths": deaths, "progress": progress})
        score = None if goal.pause is None else plan.advance(point, folder, goal.pause)
        if score is None:
            write_json(folder / RESULT, measure(point, folder, evaluating))
        else:
            scores = read_rungs(folder)["scores"] | {str(goal.pause): score}
            _mark(folder, "paused", step=goal.pause, scores=scores)
    except Interrupted:
        raise
    except Exception as error:
        if (full := _full_disk(error)) is not None:
            raise full from error
        reason = first_line(error)
        reason = reason if isinstance(error, InputError) else f"{type(error).__name__}: {reason}"
        logging.warning("the point %s failed: %s", point.name, reason)
        write_json(folder / FAILURE, {"reason": reason, "traceback": traceback.format_exc()})
    finally:
        (folder / RUNNING).unlink(missing_ok=True)


def _progress(folder: Path) -> int:
    """Returns the last step in the log of a network."""
    return max((entry["step"] for entry in read_log(folder / LOG)), default=0)


def _deaths(folder: Path) -> tuple[int, int]:
    """Returns how many processes in a row have died at a point without progress, and that progress."""
    running, progress = read_entry(folder / RUNNING), _progress(folder)
    if running is None or progress > running.get("progress", -1):
        return 0, progress
    return int(running["deaths"]) + 1, int(running["progress"])


def _full_disk(error: BaseException | None) -> OSError | None:
    """Returns the error of a full or read-only disk that caused an error; other points have it as well."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__cause__
    return None
