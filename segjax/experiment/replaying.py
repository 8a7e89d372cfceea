"""Repeats one step of a run, to find why its gradient is not finite."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from segjax.errors import InputError
from segjax.experiment.ensembles import refuse_ensemble
from segjax.experiment.methods import make_proposer
from segjax.experiment.sections import check_settings
from segjax.experiment.setup import make_first_state, make_setup, make_stream, open_split, with_lower_rate
from segjax.experiment.workdir import ModelMetadata, check_config
from segjax.train.cost import KeyedStep
from segjax.train.log import read_log
from segjax.train.replay import broken_rows, first_not_finite
from segjax.train.restoring import StateReader
from segjax.typing import Batch


def replay(config: ConfigDict, workdir: Path, number: int) -> str:
    """Repeats a step of a run from the checkpoint before it; nothing in the folder is changed.

    Args:
      config: config of the run.
      workdir: its folder.
      number: the step, 1 for the first one.

    Returns:
      What is not finite in the step, and which images and which operation cause it.

    Raises:
      InputError: if the run has another config, or there is no such step.
    """
    check_settings(config)
    refuse_ensemble(config, f"--replay={number}")
    check_config(workdir, config)
    if jax.process_count() > 1 or not 1 <= number <= config.steps:
        raise InputError(f"--replay={number} must be a step from 1 to {config.steps}, with one process")
    source = open_split(config, "train")
    metadata = ModelMetadata(tuple(source.class_names), source[0].image.shape[-1])
    setup = make_setup(config, metadata)
    stream = make_stream(config, source, setup.task, make_proposer(config))
    restored = StateReader(workdir / "checkpoints").restore(setup.shapes, setup.mesh, before=number)
    state = make_first_state(config, metadata, setup) if restored is None else restored[0]
    notes = [entry for entry in read_log(workdir / "log.jsonl") if isinstance(entry.get("rollback"), dict)]
    counts = _rollbacks(notes, 0 if restored is None else restored[1].get("rollbacks", 0))

    @functools.cache
    def step_after(rollbacks: int) -> KeyedStep:
        current = make_setup(with_lower_rate(config, rollbacks), metadata) if rollbacks else setup
        return KeyedStep(current.step, jax.random.key(config.seed))

    first = int(state.step)
    for index in range(first, number - 1):
        state, _ = step_after(counts(index))(state, cast(Batch, stream.batch(index)))
    step = step_after(counts(number - 1))
    batch = cast(Batch, stream.batch(number - 1))
    names = stream.names(number - 1)
    # The step donates its state, which is needed again.
    _, metrics = step(jax.tree.map(jnp.copy, state), batch)
    loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
    result = f"step {number}, repeated from step {first}: loss {loss:.6g}, norm of the gradient {norm:.6g}"
    if not int(metrics["consecutive_skips"]):
        return f"{result}; both are finite{_went_back(notes, number)}"
    alone = [names[row] for row in broken_rows(step, state, batch)]
    return "\n".join(
        (
            result,
            f"images whose own gradient is not finite: {', '.join(dict.fromkeys(alone)) or 'none'}",
            f"images of the step: {', '.join(dict.fromkeys(names))}",
            *map(str, first_not_finite(step.step, state, batch, step.key).values()),
        )
    )


def _went_back(notes: Sequence[Mapping[str, Any]], number: int) -> str:
    """Returns the hint that a step was taken more than once, and this is the last time; "" if it was not."""
    for note in reversed(notes):
        last = note["rollback"].get("diverged_at", 0)
        if note["step"] < number <= last:
            return (
                f". The run had diverged at step {last} and went back to step {note['step']}: this is the"
                " step after that, log.set_aside*.jsonl has the one before"
            )
    return ""


def _rollbacks(notes: Sequence[Mapping[str, Any]], saved: int) -> Callable[[int], int]:
    """Returns how often a run had gone back when it left a step; a checkpoint knows earlier rollbacks only.

    Args:
      notes: the entries of the log about rollbacks.
      saved: how often it had when it saved the checkpoint.
    """
    return lambda step: max([saved, *(note["rollback"]["number"] for note in notes if note["step"] <= step)])
