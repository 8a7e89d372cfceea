"""Log of a training run: JSON lines, TensorBoard and other trackers."""

from __future__ import annotations

import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from segjax.files import atomic_write
from segjax.settings import NonNegativeInt, broken_rule
from segjax.train.trackers import Tracking

_log = logging.getLogger(__name__)
# Seconds between two writes to the disk.
FLUSH_EVERY = 10.0


class Log:
    """Writes `log.jsonl` and TensorBoard event files to a folder, and the same values to a tracker.

    A run that resumes from a checkpoint repeats the steps after it and would log them twice, so their entries
    are deleted; they are set aside if the run goes on in another way. What cannot be written, as on a full
    disk, is said once; training goes on.

    Args:
      folder: folder of the run, which is created.
      start: step of the checkpoint.
      is_validated: whether the checkpoint has the result of its validation; else that is repeated as well.
      track: name of the tracker, see `TRACKERS`; "" for none.
      set_aside: whether checkpoints after this one are set aside, as are then the entries.
    """

    def __init__(
        self,
        folder: Path,
        *,
        start: int,
        is_validated: bool = True,
        track: str = "",
        set_aside: bool = False,
    ) -> None:
        self._path = folder / "log.jsonl"
        self._ends_in_line = True
        self._failed: set[str] = set()
        self._flushed = 0.0
        self._board: EventsWriter | None = None
        self._try(self._path.name, lambda: self._remove_repeated(start, is_validated, set_aside))
        self._try("tensorboard", lambda: self._open_board(folder / "tensorboard", start))
        self._tracking = Tracking(track, folder)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes the values of a step; keys of nested dictionaries are joined to `outer/inner`.

        Values that are not finite are written as null; texts are left out.
        """
        flat = _flatten(values)
        finite = {name: value for name, value in flat.items() if math.isfinite(value)}
        self.note(step, {name: finite.get(name) for name in flat})
        self._try("tensorboard", lambda: self._write_board(step, finite))
        self._tracking.write(step, finite)

    def note(self, step: int, values: dict[str, Any]) -> None:
        """Writes an entry of JSON values to `log.jsonl` only."""
        self._try(self._path.name, lambda: self._append(json.dumps({"step": step} | values)))

    def note_new(self, step: int, name: str, value: Any) -> None:
        """Writes an entry, unless the last one of this name has the same JSON value."""
        values = [entry[name] for entry in read_log(self._path) if name in entry]
        if values[-1:] != [value]:
            self.note(step, {name: value})

    def close(self) -> None:
        """Writes what is left to the disk."""
        board, self._board = self._board, None
        if board is not None:
            self._try("tensorboard", board.close)
        self._tracking.close()

    def _try(self, name: str, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            if name not in self._failed:
                _log.warning("%s cannot be written (%s): training goes on without it", name, error)
            self._failed.add(name)

    def _remove_repeated(self, start: int, is_validated: bool, set_aside: bool) -> None:
        def is_repeated(entry: dict[str, Any]) -> bool:
            # Changes since the checkpoint are compared and written again, as is what led to a rollback.
            at_start = (
                "changes" in entry
                or "rollback" in entry
                or ("validation/score" in entry and not is_validated)
            )
            return entry["step"] > start or (entry["step"] == start and at_start)

        entries = read_log(self._path)
        removed = [entry for entry in entries if is_repeated(entry)]
        if removed and set_aside:
            names = (f"{self._path.stem}.set_aside{number or ''}.jsonl" for number in itertools.count())
            path = next(path for path in map(self._path.with_name, names) if not path.exists())
            _write_entries(path, removed)
            _log.warning("%s has what the log had of the steps after step %d", path, start)
        _write_entries(self._path, [entry for entry in entries if not is_repeated(entry)])

    def _append(self, line: str) -> None:
        # What a failed write left behind is a line of its own, which a reader leaves out.
        before, self._ends_in_line = "" if self._ends_in_line else "\n", False
        with self._path.open("a") as file:
            file.write(before + line + "\n")
        self._ends_in_line = True

    def _open_board(self, folder: Path, start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._board = EventsWriter(str(folder / "events"))
        # TensorBoard forgets the steps from here on.
        self._board.write_event(Event(step=start + 1, session_log=SessionLog(status=SessionLog.START)))

    def _write_board(self, step: int, values: dict[str, float]) -> None:
        if self._board is None:
            return
        for name, value in values.items():
            self._board.write_event(Event(step=step, wall_time=time.time(), summary=scalar(name, value)))
        if time.monotonic() > self._flushed + FLUSH_EVERY:
            self._flushed = time.monotonic()
            self._board.flush()


class NoLog:
    """Discards all values: the log of every process except the first."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Does nothing."""

    def note(self, step: int, values: dict[str, Any]) -> None:
        """Does nothing."""

    def note_new(self, step: int, name: str, value: Any) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the entries of a `log.jsonl`; lines that are incomplete or of another kind are left out."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and broken_rule(entry.get("step"), NonNegativeInt) is None:
            entries.append(entry)
    return entries


def _write_entries(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    with atomic_write(path) as tmp_path:
        tmp_path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}/")
        elif value is not None and not isinstance(value, str):
            flat[prefix + name] = float(value)
    return flat
