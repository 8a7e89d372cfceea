"""Writes the checkpoints of a run, and resumes from the newest one that is intact."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from segjax.errors import InputError, first_line
from segjax.train.checkpoint_files import by_score, rank, write_validation
from segjax.train.processes import all_or_none, exchange
from segjax.train.reading import Unusable, json_digest
from segjax.train.restoring import StateReader
from segjax.train.state import State, digests

_log = logging.getLogger(__name__)
UNFINISHED = ("*.orbax-checkpoint-tmp*", "*.deleting")


class Checkpoints(StateReader):
    """The checkpoints of a run: the latest ones and the best one, written in the background.

    Orbax writes a step completely or not at all. In addition, this class detects files that changed
    afterwards, and falls back to an older checkpoint if the newest one cannot be read. Only one process of
    one run may open a folder for writing; any number may read it.

    Args:
      folder: the folder of the checkpoints, which is created.
      keep: number of latest checkpoints.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        super().__init__(folder)
        self._keep = keep
        # Step after which the parameters last changed.
        self._last_applied: int | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            for pattern in UNFINISHED:
                for path in self.folder.glob(pattern):
                    shutil.rmtree(path, ignore_errors=True)
        self._stack = ExitStack()
        self._stack.enter_context(_without_tracebacks())
        handler = ocp.CompositeCheckpointHandler("state", "digests", "progress")
        self._checkpointer = ocp.AsyncCheckpointer(handler)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            try:
                self._checkpointer.close()
            except Exception:
                if kind is None:  # else the first error is the one to report
                    raise

    def save(self, state: State, progress: dict[str, Any]) -> None:
        """Starts to save a state; returns when the state may be changed.

        Args:
          state: the state; its step names the checkpoint. Saving a step twice does nothing.
          progress: all else that a resumed run needs; written as JSON.
        """
        self.wait()  # raises the error of an earlier save
        step = int(state.step)
        if step in self.common_steps():
            return
        self._last_applied = step - int(state.consecutive_skips)
        progress = json.loads(json.dumps(progress))  # written later, when the caller may have changed it
        all_digests = digests(vars(state)) | {"progress": json_digest(progress)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(vars(state)),
            digests=ocp.args.JsonSave(all_digests),
            progress=ocp.args.JsonSave(progress),
        )
        try:
            self._checkpointer.save(self.folder / str(step), args=args)
        except Exception as error:
            raise self._refused(error) from error

    def record_validation(self, step: int, progress: dict[str, Any], score: float) -> None:
        """Adds the result of the validation to a saved step; all processes call it.

        Args:
          step: the step.
          progress: replaces the progress that was saved with the step.
          score: validation score, higher is better; determines the best checkpoint.
        """
        self.wait()
        with all_or_none("the validation score"):
            if jax.process_index() == 0:
                try:
                    write_validation(self.folder / str(step), score, progress)
                except OSError as error:
                    raise self._refused(error) from error
                self._rotate()

    def is_validated(self, step: int) -> bool:
        """Returns whether the result of the validation is stored with a step; all processes call it."""
        is_validated = self.score(step) is not None
        return exchange(str(is_validated), "the last validation")[0] == "True"

    def wait(self) -> None:
        """Waits until the checkpoint is on disk, then deletes older ones.

        Raises:
          InputError: if it cannot be written; earlier checkpoints are intact.
        """
        try:
            self._checkpointer.wait_until_finished()
        except Exception as error:
            raise self._refused(error) from error
        if jax.process_index() == 0:
            self._rotate()

    def restore(
        self, like: State, mesh: jax.sharding.Mesh, *, before: int | None = None
    ) -> tuple[State, dict[str, Any]] | None:
        """Restores as `StateReader`, and remembers which step last changed the parameters."""
        restored = super().restore(like, mesh, before=before)
        self._last_applied = None
        if restored is not None:
            state, _ = restored
            self._last_applied = int(state.step) - int(state.consecutive_skips)
        return restored

    def set_aside_after(self, step: int) -> bool:
        """Renames the checkpoints after the one that a run resumes from: what was unreadable may be intact.

        Returns:
          Whether there was any; always False in other processes than the first.

        Raises:
          InputError: if they cannot be renamed.
        """
        with all_or_none("the checkpoints to set aside"):
            later = [other for other in self.steps() if other > step] if jax.process_index() == 0 else []
            for other in later:
                self._set_aside(other)
        return bool(later)

    def _set_aside(self, step: int) -> None:
        path = self.folder / str(step)
        names = (f"{step}.set_aside{number or ''}" for number in itertools.count())
        new = next(self.folder / name for name in names if not (self.folder / name).exists())
        try:
            path.rename(new)
        except OSError as error:
            raise self._refused(error) from error
        _log.warning("%s is set aside as %s; delete it if nobody needs it", path, new.name)

    def _rotate(self) -> None:
        """Deletes all but the latest steps, the best one, and those that may still be needed.

        These are steps whose score cannot be read now, and the last good one: a run that diverges later goes
        back to it, however many steps are saved meanwhile.
        """
        steps = self.steps()
        scores: dict[int, float | None] = {}
        for step in steps:
            with suppress(Unusable):  # it may be the best one
                validation = self._validation(step)
                scores[step] = None if validation is None else validation["score"]
        needed = [*by_score(scores)[:1], last_good(steps, self._last_applied)]
        for step in steps[: -self._keep]:
            if step in scores and step not in needed:
                path = self.folder / str(step)
                try:
                    # What is deleted in part must not look like a checkpoint.
                    path = path.rename(path.with_suffix(".deleting"))
                    shutil.rmtree(path)
                except OSError as error:
                    self._warn(f"{path} cannot be deleted ({error})")

    def _refused(self, error: Exception) -> InputError:
        return InputError(
            f"a checkpoint cannot be written to {self.folder} ({first_line(error)}): make room or choose"
            " another --workdir; earlier checkpoints are intact, and the same command resumes from them"
        )


def last_good(steps: Sequence[int], last_applied: int | None) -> int | None:
    """Returns the last checkpoint that a step with a finite gradient follows; None if there is none.

    Args:
      steps: the steps of the checkpoints, ascending.
      last_applied: the last step that changed the parameters; None if it is not known.

    >>> last_good([2, 4, 6, 8], last_applied=6), last_good([2, 4], last_applied=2)
    (4, None)
    """
    return max((step for step in steps if last_applied is None or step < last_applied), default=None)


def is_better(score: float, best: float | None) -> bool:
    """Returns whether a score is an improvement; of equal scores, the first is the best one.

    >>> is_better(0.5, None), is_better(0.5, 0.5), is_better(0.5, float("nan")), is_better(float("nan"), 0.5)
    (True, False, True, False)
    """
    return best is None or rank(score) > rank(best)


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Drops the tracebacks that Orbax logs for each of its threads, for errors that it also raises."""

    def is_not_orbax(record: logging.LogRecord) -> bool:
        return not (record.exc_info and "orbax" in Path(record.pathname).parts)

    logger = logging.getLogger("absl")
    logger.addFilter(is_not_orbax)
    try:
        yield
    finally:
        logger.removeFilter(is_not_orbax)
