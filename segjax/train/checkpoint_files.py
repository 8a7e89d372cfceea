"""Reads the checkpoints of a run; nothing in the folder is changed, so that a run can train meanwhile.

A checkpoint is a folder `<step>`: the state by Orbax, and as JSON the digests of its arrays and the progress
of the run. After the validation of the step, `validation.json` is added: the score, and the progress with it.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from segjax.errors import InputError
from segjax.files import write_json
from segjax.train.reading import Unusable, attempt, check_digests, check_progress, json_digest
from segjax.train.sharding import with_shardings
from segjax.typing import Params, PyTree

_log = logging.getLogger(__name__)
VALIDATION = "validation.json"


class CheckpointReader:
    """The checkpoints of a run, to read only.

    Args:
      folder: the folder of the checkpoints; it may be empty or missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        # Each problem is said once.
        self._said: set[str] = set()

    def steps(self) -> list[int]:
        """Returns the steps of the checkpoints, ascending.

        Raises:
          InputError: if the folder cannot be read.
        """

        def names() -> list[str]:
            try:
                return os.listdir(self.folder)
            except FileNotFoundError:
                return []

        try:
            return sorted(int(name) for name in attempt(names) if name.isdecimal())
        except Unusable as problem:
            raise InputError(f"{self.folder} cannot be read ({problem}): try again") from problem

    def score(self, step: int) -> float | None:
        """Returns the validation score of a step; None if it was not validated, or the score is damaged."""
        try:
            validation = self._validation(step)
        except Unusable as problem:
            self._warn(f"The score of checkpoint {self.folder}/{step} is not used: {problem}")
            return None
        return None if validation is None else validation["score"]

    def ranking(self) -> list[int]:
        """Returns the steps, the best first: by score, of equal scores the first; then those without a score.

        NaN is the worst score. Steps without a score are ordered from the latest to the first.
        """
        scores = {step: self.score(step) for step in self.steps()}
        rest = [step for step in reversed(scores) if scores[step] is None]
        return by_score(scores) + rest

    def best(self) -> int | None:
        """Returns the step with the highest score, or the latest step if none has a score."""
        return next(iter(self.ranking()), None)

    def digest(self, *, latest: bool = False) -> str:
        """Returns the digest of the state that `restore_params` prefers; "" if there is none."""
        step = max(self.steps(), default=None) if latest else self.best()
        if step is None:
            return ""
        try:
            state = self._digests(step)
        except Unusable:
            return ""
        return json_digest({name: value for name, value in state.items() if name != "progress"})

    def progress(self, step: int) -> dict[str, Any]:
        """Returns the `progress` that was saved with a step, after its validation if it has one.

        Raises:
          InputError: if it is damaged.
        """
        try:
            return self._progress(step)
        except Unusable as problem:
            raise InputError(
                f"checkpoint {self.folder}/{step} is damaged ({problem}): restore it from a copy or delete it"
            ) from problem

    def last_progress(self) -> dict[str, Any]:
        """Returns the `progress` of the newest checkpoint that has an intact one; {} if none has."""
        for step in reversed(self.steps()):
            try:
                return self._progress(step)
            except Unusable:
                continue
        return {}

    def restore_params(self, shapes: Params, *, latest: bool = False) -> tuple[Params, int]:
        """Restores the parameters for evaluation, and nothing else, onto one device.

        Args:
          shapes: shapes and dtypes of the parameters.
          latest: whether to prefer the latest checkpoint to the best one.

        Returns:
          The moving average of the parameters if the run has one, else the parameters; and their step. If the
          preferred checkpoint cannot be used, the next one is.

        Raises:
          InputError: if no checkpoint can be used.
        """
        problems: dict[int, str] = {}
        if not latest:
            self._warn_if_best_is_missing()
        # A run that trains meanwhile adds and deletes checkpoints, so each attempt lists the steps.
        while candidates := [
            step for step in (self.steps()[::-1] if latest else self.ranking()) if step not in problems
        ]:
            step = candidates[0]
            try:
                params = self._read_params(shapes, step)
            except Unusable as problem:
                problems[step] = str(problem)
                if (self.folder / str(step)).exists():
                    _log.warning("Checkpoint %s/%d is not used: %s", self.folder, step, problem)
                continue
            if problems:
                _log.warning("Checkpoint %s/%d is used in its place", self.folder, step)
            return params, step
        raise self._no_checkpoint(problems)

    def _warn_if_best_is_missing(self) -> None:
        steps = self.steps()
        try:
            best = self._progress(steps[-1])["best"] if steps else None
        except (Unusable, KeyError):
            return
        # A run that trains meanwhile may have replaced it.
        if best is not None and self.score(best["step"]) is None and steps[-1] in self.steps():
            self._warn(
                f"The best checkpoint {self.folder}/{best['step']} or its score is missing; the best of the"
                " others is used"
            )

    def _warn(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            _log.warning("%s", sentence)

    def _no_checkpoint(self, problems: Mapping[int, str]) -> InputError:
        if not problems:
            return InputError(f"{self.folder} has no checkpoint yet: segjax train makes one")
        newest = max(problems)
        return InputError(
            f"all checkpoints {sorted(problems)} in {self.folder} are damaged or do not fit the config (step"
            f" {newest}: {problems[newest]}): restore the folder from a copy, use the config of the run, or"
            " start again with another --workdir"
        )

    def _read_params(self, shapes: Params, step: int) -> Params:
        expected = self._digests(step)
        name = "ema_params" if any(path.startswith("ema_params/") for path in expected) else "params"
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = with_shardings({name: shapes}, {name: jax.tree.map(lambda _: device, shapes)})
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        args = ocp.args.PyTreeRestore(target, restore_args, partial_restore=True)
        self._check_shapes(step, target)
        restored = self._read_state(step, ocp.PyTreeCheckpointHandler(), args)
        expected = {path: value for path, value in expected.items() if path.startswith(f"{name}/")}
        check_digests(expected, restored)
        return restored[name]

    def _read_state(self, step: int, handler: Any, args: Any) -> Any:
        # Each process reads on its own: else those that can read would wait for one that cannot.
        alone = ocp.options.MultiprocessingOptions(active_processes={jax.process_index()})

        def read() -> Any:
            with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
                return checkpointer.restore(self.folder / str(step) / "state", args=args)

        return attempt(read)

    def _check_shapes(self, step: int, target: PyTree) -> None:
        """Checks the names and shapes of the arrays of `target`, which may be a part of the state."""
        folder = self.folder / str(step) / "state"
        saved = attempt(lambda: ocp.PyTreeCheckpointHandler().metadata(folder).tree)
        shapes = {_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(saved)}
        for path, leaf in jax.tree_util.tree_leaves_with_path(target):
            name = _name(path)
            if shapes.get(name) != leaf.shape:
                stored = f"the shape {shapes[name]}" if name in shapes else "no such array"
                raise Unusable(f"the config makes {name} with the shape {leaf.shape}, stored is {stored}")

    def _digests(self, step: int) -> dict[str, str]:
        content = self._read_json(step, "digests/metadata")
        if not all(isinstance(digest, str) for digest in content.values()):
            raise Unusable("digests/metadata has an entry that is not a digest")
        return content

    def _progress(self, step: int) -> dict[str, Any]:
        try:
            validation = self._validation(step)
        except Unusable as problem:
            self._warn(f"Checkpoint {self.folder}/{step} counts as not validated: {problem}")
            validation = None
        if validation is not None and validation["progress"] is not None:
            return validation["progress"]
        progress = self._read_json(step, "progress/metadata")
        check_progress(progress)
        # Earlier versions stored no digest of the progress.
        if self._digests(step).get("progress", json_digest(progress)) != json_digest(progress):
            raise Unusable("the digest of progress/metadata differs")
        return progress

    def _validation(self, step: int) -> dict[str, Any] | None:
        """Returns score and progress of a validated step, None of one that was not validated."""
        folder = self.folder / str(step)
        if (folder / VALIDATION).exists():
            content = self._read_json(step, VALIDATION)
            digest = content.pop("sha256", None)
            if digest != json_digest(content):
                raise Unusable(f"the digest of {VALIDATION} differs")
            if not isinstance(content.get("score"), int | float):
                raise Unusable(f"{VALIDATION} has no score")
            check_progress(content.get("progress"))
            return content
        # Earlier versions stored the score when they saved the state.
        if not (folder / "metrics").exists():
            return None
        score = self._read_json(step, "metrics/metrics").get("score")
        if not isinstance(score, int | float):
            raise Unusable("metrics/metrics has no score")
        return {"score": score, "progress": None}

    def _read_json(self, step: int, name: str) -> dict[str, Any]:
        content = attempt(lambda: json.loads((self.folder / str(step) / name).read_bytes()))
        if not isinstance(content, dict):
            raise Unusable(f"{name} is not a JSON object")
        return content


def write_validation(folder: Path, score: float, progress: Mapping[str, Any]) -> None:
    """Adds score and progress to the folder of a checkpoint, with their digest."""
    content: dict[str, Any] = {"score": score, "progress": progress}
    write_json(folder / VALIDATION, content | {"sha256": json_digest(content)})


def by_score(scores: Mapping[int, float | None]) -> list[int]:
    """Returns the steps that have a score, the best first; of equal scores, the first step is the best.

    >>> by_score({1: 0.5, 2: float("nan"), 3: None, 4: 0.9, 5: 0.9})
    [4, 5, 1, 2]
    """
    scored = [step for step, score in scores.items() if score is not None]
    return sorted(scored, key=lambda step: (-rank(scores[step]), step))


def rank(score: float | None) -> float:
    """Returns a number by which scores are compared: that of NaN, and of no score, is the lowest.

    >>> rank(0.3) > rank(float("nan")) == rank(None)
    True
    """
    return -math.inf if score is None or math.isnan(score) else score


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
