"""Where a run starts: from its newest intact checkpoint, and with what that was made with."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from segjax.errors import InputError
from segjax.train.checkpoint import Checkpoints
from segjax.train.state import State

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What a run is made from, besides its state; every checkpoint stores it.

    Attributes:
      data: digests of the data, by name.
      config: value of each field of the config, by its path; JSON values.
      versions: version of each package, by name. Results are equal bit by bit for equal versions only.
    """

    data: Mapping[str, str] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Start(NamedTuple):
    """The start of a run, or of a further part of it.

    Attributes:
      state: the state, sharded.
      progress: what a checkpoint stores besides the state.
      changes: `(value before, value from this step on)` of what differs from the earlier part of the run.
      rollback: why the run went back to this state, for the log; None if it did not.
      set_aside: whether later checkpoints are set aside; known to the first process only.
    """

    state: State
    progress: dict[str, Any]
    changes: dict[str, tuple[Any, Any]]
    rollback: Rollback | None = None
    set_aside: bool = False

    @property
    def rollbacks(self) -> int:
        """How often the run went back to an earlier checkpoint."""
        return self.progress["rollbacks"]

    def after(self, rollback: Rollback | None) -> Start:
        """Returns the start after a rollback; itself if that is None."""
        if rollback is None:
            return self
        progress = self.progress | {"rollbacks": rollback.number}
        return self._replace(progress=progress, rollback=rollback, set_aside=True)


class Rollback(NamedTuple):
    """Why a run went back to an earlier checkpoint.

    Attributes:
      number: how often it did, this time included.
      diverged_at: the step at which the run had diverged.
      reason: one sentence.
    """

    number: int
    diverged_at: int
    reason: str


def resume(
    like: State,
    checkpoints: Checkpoints,
    provenance: Provenance,
    *,
    first: Callable[[], State] | None = None,
    accept_changes: bool = False,
) -> Start:
    """Restores the newest intact checkpoint of a run, or starts at the first state if there is none.

    Later checkpoints, which could not be read, are set aside.

    Args:
      like: the state before the first step, sharded; or its shapes, with their sharding.
      checkpoints: the checkpoints of the run.
      provenance: what the run is made from now.
      first: makes the state before the first step, if `like` has its shapes only; not called for a run that
        has checkpoints.
      accept_changes: whether the data may differ from those of the earlier part of the run.

    Raises:
      InputError: if no checkpoint can be used, its progress is incomplete, or the data changed.
    """
    mesh = jax.tree.leaves(like)[0].sharding.mesh
    restored = checkpoints.restore(like, mesh)
    now = {"config": dict(provenance.config), "versions": dict(provenance.versions)}
    if restored is None:
        progress: dict[str, Any] = {"seconds": 0.0, "best": None, "since_best": 0, "stopped": False}
        progress |= {"rollbacks": 0}
        return Start(
            like if first is None else first(), {**progress, **now, "run_metadata": dict(provenance.data)}, {}
        )
    state, progress = restored
    if missing := {"seconds", "best", "since_best", "stopped", "run_metadata"} - progress.keys():
        raise InputError(
            f"checkpoint {checkpoints.folder}/{int(state.step)} has no {', '.join(sorted(missing))} in its"
            " progress: segjax did not write it, delete it"
        )
    data = dict(progress["run_metadata"])
    changes = _changes("data", data, {**data, **provenance.data})
    if changes and not accept_changes:
        name, (before, after) = next(iter(changes.items()))
        raise InputError(
            f"the run was started with {name.removeprefix('data.')} {before}, the data now have {after}:"
            " restore the data, start again with another --workdir, or go on with these by --accept_changes"
        )
    for name in now:
        # Earlier versions stored neither.
        if name in progress:
            changes |= _changes(name, progress[name], now[name])
    step = int(state.step)
    for name, (before, after) in changes.items():
        _log.warning("From step %d on, %s is %r; it was %r", step, name, after, before)
    if any(name.startswith("versions.") for name in changes):
        _log.warning("With other versions, results agree up to rounding, not bit for bit")
    set_aside = checkpoints.set_aside_after(step)
    progress = {"rollbacks": 0, **progress, **now, "run_metadata": {**data, **provenance.data}}
    return Start(state, progress, changes, set_aside=set_aside)


def _changes(section: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the values that differ; data that an earlier version had no digest of do not count."""
    return {
        f"{section}.{name}": (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and (section != "data" or name in before)
    }
