"""Lets a run that has diverged go back to its last good checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable

from segjax.train.checkpoint import Checkpoints, last_good
from segjax.train.loop import Result
from segjax.train.members import Training
from segjax.train.reporting import Diverged
from segjax.train.resume import Rollback

_log = logging.getLogger(__name__)


def with_rollbacks(
    attempt: Callable[[Rollback | None], Training[Result]], checkpoints: Checkpoints, *, limit: int
) -> Training[Result]:
    """Trains, as `fit`; a run that has diverged goes back to its last good checkpoint and goes on from there.

    That is the last one after which a gradient was finite. Later checkpoints are set aside. If the run went
    back to the same checkpoint before, it goes back to the one before that.

    Args:
      attempt: resumes from the newest checkpoint and trains. Its argument is why the run went back, None the
        first time; each rollback halves the learning rate.
      checkpoints: the checkpoints of the run.
      limit: how often the run goes back.

    Raises:
      Diverged: if the run diverges again after `limit` rollbacks.
    """
    rollback: Rollback | None = None
    before: int | None = None
    while True:
        try:
            return (yield from attempt(rollback))
        except Diverged as diverged:
            if diverged.rollbacks >= limit:
                raise
            before = _go_back(checkpoints, diverged, before)
            rollback = Rollback(diverged.rollbacks + 1, diverged.step, diverged.reason)
            where = f"checkpoint {before}" if before else "its start"
            _log.warning(
                "The run has diverged at step %d and goes back to %s, with half the learning rate: %s",
                diverged.step,
                where,
                diverged.reason,
            )


def _go_back(checkpoints: Checkpoints, diverged: Diverged, before: int | None) -> int:
    """Sets the checkpoints after the last good one aside, and returns its step; 0 if there is none."""
    checkpoints.wait()
    steps = checkpoints.common_steps()
    good = last_good(steps, diverged.last_applied)
    if good is not None and good == before:
        good = last_good(steps, good)
    checkpoints.set_aside_after(good or 0)
    return good or 0
