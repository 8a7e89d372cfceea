"""Checkpoints by Orbax, with a digest of every array and a fallback to an older checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from segjax.errors import InputError
from segjax.train.sharding import state_sharding
from segjax.train.state import State, digests
from segjax.typing import Params, PyTree

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of a run: the latest ones and the best one, written in the background.

    Orbax writes a step completely or not at all. In addition, this class detects files that changed
    afterwards, and falls back to an older checkpoint if the newest one cannot be read.
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
                best_fn=lambda metrics: metrics["score"],  # without it, Orbax writes no metrics
            ),
            item_names=("state", "digests", "progress"),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Returns the steps of the checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, progress: dict[str, Any], score: float | None = None) -> None:
        """Starts to save a state; returns when the state may be changed.

        Args:
          state: the state; its step names the checkpoint. Saving a step twice does nothing.
          progress: all else that a resumed run needs; written as JSON.
          score: validation score of this state, higher is better; determines the best checkpoint.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self.wait()  # raises the error of an earlier save
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
        """Waits until the checkpoint is on disk.

        Raises:
          InputError: if it cannot be written; earlier checkpoints are intact.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise InputError(
                f"a checkpoint cannot be written to {self.folder} ({error}): make room or choose another"
                " --workdir; earlier checkpoints are intact, and the same command resumes from them"
            ) from error

    def best(self) -> int | None:
        """Returns the step with the highest score, or the latest step if none has a score."""
        scored = {}
        for step in self.steps():
            metrics = self._manager.metrics(step)
            if metrics:
                scored[step] = metrics["score"]
        return (
            max(scored, key=lambda step: (scored[step], step)) if scored else max(self.steps(), default=None)
        )

    def progress(self, step: int) -> dict[str, Any]:
        """Returns the `progress` that was saved with a step."""
        args = ocp.args.Composite(progress=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["progress"]

    def restore(self, like: State, mesh: jax.sharding.Mesh) -> tuple[State, dict[str, Any]] | None:
        """Restores the newest intact checkpoint.

        Args:
          like: a state, or its shapes.
          mesh: mesh for the state; it may differ from the mesh that the state was saved from.

        Returns:
          The state and its progress; None if there is no checkpoint.

        Raises:
          InputError: if there are checkpoints, but all of them are damaged.
        """
        target = _with_shardings(vars(like), vars(state_sharding(mesh, like)))
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(target),
            digests=ocp.args.JsonRestore(),
            progress=ocp.args.JsonRestore(),
        )
        steps = self.steps()[::-1]
        for step in steps:
            try:
                restored = self._manager.restore(step, args=args)
                problem = _difference(restored["digests"], digests(restored["state"]))
            except Exception as error:
                problem = _first_line(error)
            if problem is None:
                return State(**restored["state"]), restored["progress"]
            _log.warning("Checkpoint %s/%d is damaged: %s", self.folder, step, problem)
        if not steps:
            return None
        raise InputError(
            f"all checkpoints {steps} in {self.folder} are damaged: restore the folder from a copy, or start"
            " again with another --workdir"
        )

    def restore_params(self, shapes: Params, steps: Sequence[int]) -> tuple[Params, int]:
        """Restores the parameters for evaluation, and nothing else, onto one device.

        Args:
          shapes: shapes and dtypes of the parameters.
          steps: steps of the checkpoints to try, in this order.

        Returns:
          The moving average of the parameters if the run has one, else the parameters; and their step.

        Raises:
          InputError: if all these checkpoints are damaged.
        """
        for step in steps:
            try:
                params, problem = self._read_params(shapes, step)
            except Exception as error:
                problem = _first_line(error)
            if problem is None:
                return params, step
            _log.warning("Checkpoint %s/%d is damaged: %s", self.folder, step, problem)
        raise InputError(
            f"all checkpoints {list(steps)} in {self.folder} are damaged: restore the folder from a copy, or"
            " start again with another --workdir"
        )

    def _read_params(self, shapes: Params, step: int) -> tuple[Params, str | None]:
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        args = ocp.args.Composite(digests=ocp.args.JsonRestore())
        expected = self._manager.restore(step, args=args)["digests"]
        name = "ema_params" if any(path.startswith("ema_params/") for path in expected) else "params"
        target = _with_shardings({name: shapes}, {name: jax.tree.map(lambda _: device, shapes)})
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        state_args = ocp.args.PyTreeRestore(target, restore_args, partial_restore=True)
        restored = self._manager.restore(step, args=ocp.args.Composite(state=state_args))["state"]
        expected = {path: digest for path, digest in expected.items() if path.startswith(f"{name}/")}
        return restored[name], _difference(expected, digests(restored))

    def forget_after(self, step: int) -> None:
        """Deletes the damaged checkpoints after the one that a run resumes from."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)


def _with_shardings(shapes: PyTree, shardings: PyTree) -> PyTree:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def _difference(expected: dict[str, str], actual: dict[str, str]) -> str | None:
    changed = [path for path in expected if actual.get(path) != expected[path]]
    return f"the digest of {changed[0]} and {len(changed) - 1} more differ" if changed else None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
