"""Restores the state of a run from its checkpoints; nothing in the folder is changed."""

from __future__ import annotations

import json
import logging
from typing import Any

import jax
import orbax.checkpoint as ocp

from segjax.train.checkpoint_files import CheckpointReader
from segjax.train.processes import all_or_none, exchange
from segjax.train.reading import Unusable, check_digests
from segjax.train.sharding import state_sharding, with_shardings
from segjax.train.state import State

_log = logging.getLogger(__name__)


class StateReader(CheckpointReader):
    """The checkpoints of a run, to restore its state; all processes of a run call the functions together."""

    def common_steps(self) -> list[int]:
        """Returns the steps that the first process sees: a shared disk may show others to the rest."""
        return json.loads(exchange(json.dumps(self.steps()), "the list of checkpoints")[0])

    def restore(
        self, like: State, mesh: jax.sharding.Mesh, *, before: int | None = None
    ) -> tuple[State, dict[str, Any]] | None:
        """Restores the newest checkpoint that is intact and that all processes can read.

        Args:
          like: a state, or its shapes.
          mesh: mesh for the state; it may differ from the mesh that the state was saved from.
          before: only checkpoints of smaller steps are used; None for all.

        Returns:
          The state and its progress; None if there is no checkpoint.

        Raises:
          InputError: if there are checkpoints, but none that can be used.
        """
        target = with_shardings(vars(like), vars(state_sharding(mesh, like)))
        problems = {}
        purpose = "the checkpoint to resume from"
        for step in self.common_steps()[::-1]:
            if before is not None and step >= before:
                continue
            try:
                with all_or_none(purpose, Unusable):
                    self._check_shapes(step, {"params": target["params"]})
                    expected, progress = self._digests(step), self._progress(step)
                    restored = self._read_state(
                        step, ocp.StandardCheckpointHandler(), ocp.args.StandardRestore(target)
                    )
                expected.pop("progress", None)
                with all_or_none(purpose, Unusable):
                    check_digests(expected, restored)
                progress = json.loads(exchange(json.dumps(progress), purpose)[0])
            except Unusable as problem:
                problems[step] = str(problem)
                _log.warning("Checkpoint %s/%d is damaged or unreadable: %s", self.folder, step, problem)
                continue
            return State(**restored), progress
        if problems:
            raise self._no_checkpoint(problems)
        return None
