"""Runs the points of a sweep in a folder: claims each by a lock, repeats nothing, survives failures.

Every point has a folder of its own. There, `result.json` is the result of a finished point, `failure.json`
says why a point failed, and `running.json` names the process that works on the point, or died at it.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import platform
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import logging
from filelock import FileLock, Timeout
from tqdm import tqdm

from segjax.ablation.measure import Evaluating, Measure
from segjax.ablation.points import Point, describe
from segjax.errors import InputError, Interrupted, first_line
from segjax.files import TEMPORARY, read_json_object, write_json

RESULT, FAILURE, RUNNING, ABOUT, LOCK = (
    "result.json",
    "failure.json",
    "running.json",
    "point.json",
    "point.lock",
)
POINTS = "points"
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


def state_of(folder: Path, *, claimed: bool = False) -> str:
    """Returns "done", "failed", "running", "interrupted" or "not run".

    Args:
      folder: the folder of a point.
      claimed: whether this process has its lock.
    """
    if read_entry(folder / RESULT) is not None:
        return "done"
    if (folder / FAILURE).exists():
        return "failed"
    if not (folder / ABOUT).exists():
        return "not run"
    if claimed:
        return "interrupted"
    try:
        with FileLock(folder / LOCK, timeout=0):
            return "interrupted"
    except Timeout:
        return "running"


def run_points(
    points: Sequence[Point],
    sweep: SweepFolder,
    measure: Measure,
    evaluating: Evaluating,
    *,
    retry: bool = False,
    finished: Callable[[], None] = lambda: None,
) -> None:
    """Runs the points that are neither done nor in the hands of another process.

    Args:
      points: the points.
      sweep: the folder of the sweep.
      measure: measures a point.
      evaluating: what is evaluated.
      retry: whether failed points run again.
      finished: called after each point.

    Raises:
      OSError: if the disk is full, which is no failure of the point.
      Interrupted: after SIGTERM or Ctrl-C; the same command resumes.
    """
    final = ("done",) if retry else ("done", "failed")
    left = [point for point in points if state_of(sweep.folder(point)) not in final]
    with tqdm(
        total=len(points), initial=len(points) - len(left), desc="points", unit="point", dynamic_ncols=True
    ) as bar:
        while left:
            # A point that is claimed now may be free after this pass, if its process dies.
            claimed, count = [], len(left)
            for point in left:
                folder = sweep.folder(point)
                with _claimed(folder) as is_claimed:
                    if not is_claimed:
                        claimed.append(point)
                        continue
                    # Another process may have run it a moment ago.
                    if state_of(folder, claimed=True) not in final:
                        bar.set_postfix_str(folder.name[:40])
                        _run(point, folder, measure, evaluating, retry=retry)
                        finished()
                bar.update()
            left = claimed if len(claimed) < count else []


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Yields whether this process may work in the folder of a point; the lock dies with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _run(point: Point, folder: Path, measure: Measure, evaluating: Evaluating, *, retry: bool) -> None:
    deaths = 0 if retry else _deaths(folder)
    (folder / FAILURE).unlink(missing_ok=True)
    write_json(folder / ABOUT, json.loads(json.dumps({"overrides": dict(point.overrides)}, default=str)))
    try:
        if deaths >= MAX_DEATHS:
            raise InputError(
                f"its process ended {deaths} times without progress, as it does if memory runs out: make the"
                " network, the patches or the batch smaller"
            )
        process = {"process": os.getpid(), "host": platform.node()}
        write_json(folder / RUNNING, process | {"deaths": deaths, "progress": _progress(folder)})
        write_json(folder / RESULT, measure(point, folder, evaluating))
    except Interrupted:
        raise
    except Exception as error:
        if (full := _full_disk(error)) is not None:
            raise full from error
        reason = first_line(error)
        reason = reason if isinstance(error, InputError) else f"{type(error).__name__}: {reason}"
        logging.warning("the point %s failed: %s", describe(point.overrides), reason)
        write_json(folder / FAILURE, {"reason": reason, "traceback": traceback.format_exc()})
    finally:
        (folder / RUNNING).unlink(missing_ok=True)


def _progress(folder: Path) -> int:
    """Returns a number that grows while a network is trained."""
    log = folder / "log.jsonl"
    return log.stat().st_size if log.exists() else 0


def _deaths(folder: Path) -> int:
    """Returns how many processes in a row have died at a point without progress."""
    running = read_entry(folder / RUNNING)
    if running is None:
        return 0
    return int(running["deaths"]) + 1 if running.get("progress") == _progress(folder) else 0


def _full_disk(error: BaseException | None) -> OSError | None:
    """Returns the error of a full or read-only disk that caused an error; other points have it as well."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__cause__
    return None
