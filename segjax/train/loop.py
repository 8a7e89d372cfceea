"""The loop that every method is trained by."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
from tqdm import tqdm

from segjax.errors import InputError, Interrupted
from segjax.train.checkpoint import Checkpoints
from segjax.train.log import Log, NoLog
from segjax.train.sharding import batch_sharding
from segjax.train.state import State
from segjax.train.step import Step
from segjax.typing import Array, Params

# Batches from a step on, decoded ahead while they are open.
Batches = Callable[[int], AbstractContextManager[Iterator[tuple[int, Mapping[str, Any]]]]]


class Result(NamedTuple):
    """What a finished run leaves.

    Attributes:
      state: after the last step.
      seconds: spent in the loop, earlier attempts at the same run included.
      stopped_early: whether validation stopped getting better before the last step.
    """

    state: State
    seconds: float
    stopped_early: bool


def fit(
    step: Step,
    state: State,
    batches: Batches,
    checkpoints: Checkpoints,
    *,
    steps: int,
    key: jax.Array,
    mesh: jax.sharding.Mesh,
    folder: Path,
    validate: Callable[[Params], dict[str, Any]] | None,
    validate_every: int,
    checkpoint_every: int,
    log_every: int,
    patience: int,
    max_consecutive_skips: int,
    facts: Mapping[str, Any] | None = None,
) -> Result:
    """Trains until `steps`, going on from the newest good checkpoint if there is one.

    The order within a step: take the batch, start the step on the device, and only then read the log of the
    step before, so that the device never waits for the host. Validation sees the state after its step, and
    the checkpoint of a step is saved after its validation, because it carries the score.

    Args:
      step: from `make_step`.
      state: the state at the beginning, sharded.
      batches: opens the batches from a given step on.
      checkpoints: where to go on from and to save to.
      steps: where to end.
      key: of the run.
      mesh: for the batches.
      folder: for the log.
      validate: parameters to metrics, of which "score" (higher is better) picks the best checkpoint.
      validate_every: steps between validations; 0 for none. The last step is always validated.
      checkpoint_every: steps between checkpoints; 0 for none but after a validation and at the end.
      log_every: steps between lines of the log.
      patience: validations without a better score after which the run stops; 0 for never.
      max_consecutive_skips: steps with a gradient that is not finite, one after the other, that end the run.
      facts: what every checkpoint says of the run, such as the digest of its data's split, as JSON. A run
        goes on only with the facts it was begun with.

    Returns:
      The result.

    Raises:
      InputError: if the gradients stay infinite, a checkpoint can be neither written nor read, or a fact has
        changed.
      Interrupted: after SIGTERM or Ctrl-C, when all is saved.
    """
    facts = dict(facts or {})
    progress: dict[str, Any] = {
        "seconds": 0.0,
        "best": None,
        "since_best": 0,
        "stopped": False,
        "facts": facts,
    }
    restored = checkpoints.restore(state, mesh)
    if restored is not None:
        state, progress = restored
        _check_facts(progress.get("facts", {}), facts)
        checkpoints.forget_after(int(state.step))
    first = int(state.step)
    main = jax.process_index() == 0
    log: Log | NoLog = Log(folder, start=first) if main else NoLog()
    bar = tqdm(total=steps, initial=first, unit="step", desc="train", disable=not main, dynamic_ncols=True)
    spent, began = progress["seconds"], time.monotonic()

    def save(score: float | None = None) -> None:
        progress["seconds"] = spent + time.monotonic() - began
        checkpoints.save(state, progress, score)

    def report(number: int, on_device: Mapping[str, Array], size: int) -> None:
        values = {name: float(value) for name, value in jax.device_get(on_device).items()}
        bar.update()
        rate = bar.format_dict["rate"]
        bar.set_postfix_str(f"loss {values['loss']:.4f}, {(rate or 0) * size:.1f} images/s", refresh=False)
        if values["consecutive_skips"] >= max_consecutive_skips:
            raise InputError(
                f"the gradient was not finite {max_consecutive_skips} times in a row, up to step {number}:"
                " lower config.optimizer.learning_rate or config.optimizer.clip, or look at the data"
            )
        if number % log_every == 0 or number == steps:
            log.write(number, {"train": values, "images_per_second": (rate or 0) * size})

    with bar, _asked_to_stop() as asked, batches(first) as stream:
        late: tuple[int, Mapping[str, Array], int] | None = None
        for number, batch in stream:
            if number >= steps or progress["stopped"]:
                break
            size = len(batch["image"]) * jax.process_count()
            batch = {name: _put(values, mesh) for name, values in batch.items()}
            state, values = step(state, batch, key)
            if late is not None:
                report(*late)
            late = (number + 1, values, size)
            done = number + 1
            last = done == steps
            stopping = asked(done) and not last
            validating = validate is not None and (last or _due(done, validate_every))
            if validating or stopping or last or _due(done, checkpoint_every):
                # The log before the checkpoint: a run that goes on from there does not repeat this step.
                report(done, values, size)
                late, score = None, None
                if validate is not None and validating:
                    metrics = validate(state.eval_params)
                    score = metrics["score"]
                    log.write(done, {"validation": metrics})
                    _keep_score(progress, done, score, patience)
                save(score)
            if stopping:
                checkpoints.wait()
                raise Interrupted(
                    f"stopped after step {done} of {steps}; the same command goes on from there"
                )
        if late is not None:
            report(*late)
    log.close()
    checkpoints.wait()
    return Result(state, progress["seconds"], progress["stopped"])


def _check_facts(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in before.keys() & now.keys():
        if before[name] != now[name]:
            raise InputError(
                f"this run was begun with {name} {before[name]}, which now is {now[name]}: its data have"
                " changed, so train anew in another --workdir"
            )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _put(values: Any, mesh: jax.sharding.Mesh) -> jax.Array:
    return jax.make_array_from_process_local_data(batch_sharding(mesh), values)


def _keep_score(progress: dict[str, Any], step: int, score: float, patience: int) -> None:
    best = progress["best"]
    if best is None or score > best["score"]:
        progress["best"], progress["since_best"] = {"step": step, "score": score}, 0
    else:
        progress["since_best"] += 1
    progress["stopped"] = bool(patience) and progress["since_best"] >= patience


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[int], bool]]:
    """Turns SIGTERM and the first Ctrl-C into a question that the loop asks after each step.

    Of several processes one may be asked; JAX's coordinator then makes all of them stop after the same step.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    heard = []

    def hear(number: int, _: object) -> None:
        heard.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C stops at once

    before = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere signals are not ours to handle
        before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda _: bool(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
