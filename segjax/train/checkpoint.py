"""Checkpoints by Orbax, with what it leaves out: a digest of every array, and a way past a bad one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from segjax.errors import InputError
from segjax.train.sharding import state_sharding
from segjax.train.state import State, digests
from segjax.typing import PyTree

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of a run: the latest ones and the best one, written in the background.

    Orbax writes a step whole or not at all, but it does not notice when its files change afterwards, and
    it does not look further back when the newest step cannot be read. Both are done here.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        policies = [
            preservation_policy.LatestN(n=keep),
            preservation_policy.BestN(
                get_metric_fn=lambda metrics: metrics["score"], n=1, keep_checkpoints_without_metrics=False
            ),
        ]
        self.folder = folder.absolute()
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
                cleanup_tmp_directories=True,
                best_fn=lambda metrics: metrics["score"],  # without it metrics are not written at all
            ),
            item_names=("state", "digests", "progress"),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps there are, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, progress: dict[str, Any], score: float | None = None) -> None:
        """Begins to save a state; returns once the state may be changed.

        Args:
          state: the state; its step names the checkpoint. Saving a step twice does nothing.
          progress: what else a resumed run needs, as JSON.
          score: of this state on the validation split, higher is better; decides which one is best.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self.wait()  # the error of an earlier save must not be lost
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(vars(state)),
                digests=ocp.args.JsonSave(digests(vars(state))),
                progress=ocp.args.JsonSave(progress),
            ),
            metrics=None if score is None else {"score": score},
        )

    def wait(self) -> None:
        """Waits until what was begun is on disk.

        Raises:
          InputError: if it could not be written; earlier checkpoints are intact.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise InputError(
                f"a checkpoint could not be written to {self.folder} ({error}): make room or choose"
                " another --workdir; earlier checkpoints are intact, and the same command goes on from them"
            ) from error

    def best(self) -> int | None:
        """The step with the highest score, or the latest step if none has a score."""
        scored = {}
        for step in self.steps():
            metrics = self._manager.metrics(step)
            if metrics:
                scored[step] = metrics["score"]
        return (
            max(scored, key=lambda step: (scored[step], step)) if scored else max(self.steps(), default=None)
        )

    def progress(self, step: int) -> dict[str, Any]:
        """What was saved as `progress` with a step."""
        return self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore()))[
            "progress"
        ]

    def restore(
        self, like: State, mesh: jax.sharding.Mesh, *, step: int | None = None
    ) -> tuple[State, dict[str, Any]] | None:
        """Restores the newest checkpoint that is whole, or one certain step.

        Args:
          like: a state, or its shapes.
          mesh: onto which it is restored; need not be the one it was saved from.
          step: this one and no other, if given.

        Returns:
          The state and its progress; None if there is no checkpoint at all.

        Raises:
          InputError: if there are checkpoints, but none of them can be trusted.
        """
        candidates = self.steps()[::-1] if step is None else [step]
        shardings = state_sharding(mesh, like)
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            vars(like),
            vars(shardings),
        )
        for candidate in candidates:
            problem = None
            try:
                found = self._manager.restore(
                    candidate,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(target),
                        digests=ocp.args.JsonRestore(),
                        progress=ocp.args.JsonRestore(),
                    ),
                )
                problem = _difference(found["digests"], digests(found["state"]))
            except Exception as error:
                problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            if problem is None:
                return State(**found["state"]), found["progress"]
            _log.warning("Checkpoint %s/%d is damaged: %s", self.folder, candidate, problem)
        if not candidates:
            return None
        raise InputError(
            f"none of the checkpoints {candidates} in {self.folder} can be trusted:"
            " restore the folder from a copy, or begin anew with another --workdir"
        )

    def forget_after(self, step: int) -> None:
        """Deletes the damaged checkpoints that lie after the one a run goes on from."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)


def _difference(expected: dict[str, str], found: PyTree) -> str | None:
    changed = [path for path in expected if found.get(path) != expected[path]]
    return f"the digest of {changed[0]} and {len(changed) - 1} more differ" if changed else None
