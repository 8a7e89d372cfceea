"""The training loop of every network."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
from jax.experimental import multihost_utils
from tqdm import tqdm

from segjax.errors import InputError, Interrupted
from segjax.train.checkpoint import Checkpoints
from segjax.train.log import Log, NoLog
from segjax.train.sharding import batch_sharding
from segjax.train.state import State
from segjax.typing import Array, Batch, Params

# Opens an iterator over `(step, batch)` that begins at a step; while it is open, batches are made ahead.
Batches = Callable[[int], AbstractContextManager[Iterator[tuple[int, Mapping[str, Any]]]]]


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Settings of `fit`.

    Attributes:
      steps: number of steps of the run.
      log_every: steps between lines of the log.
      checkpoint_every: steps between checkpoints; 0 for checkpoints after validations and at the end only.
      validate_every: steps between validations; 0 for none. The last step is always validated.
      patience: number of validations without improvement after which the run stops; 0 for never.
      max_consecutive_skips: number of consecutive steps with non-finite gradients that ends the run.
    """

    steps: int
    log_every: int = 20
    checkpoint_every: int = 500
    validate_every: int = 500
    patience: int = 0
    max_consecutive_skips: int = 20


class Result(NamedTuple):
    """Result of a finished run.

    Attributes:
      state: state after the last step.
      seconds: duration of the loop, including earlier attempts at the same run.
      stopped_early: whether the run ended early, because validation no longer improved.
    """

    state: State
    seconds: float
    stopped_early: bool


def fit(
    step: Callable[[State, Batch], tuple[State, Mapping[str, Array]]],
    state: State,
    batches: Batches,
    checkpoints: Checkpoints,
    config: FitConfig,
    *,
    folder: Path,
    validate: Callable[[Params], dict[str, Any]] | None,
    run_metadata: Mapping[str, Any] | None = None,
) -> Result:
    """Trains up to `config.steps`, resuming from the newest intact checkpoint if there is one.

    The order within a step: take the batch, start the step on the device, and only then read the metrics of
    the step before, so that the device never waits for the host. Validation uses the state after the step.
    The checkpoint of a step is saved after its validation, as it contains the score.

    Args:
      step: `(state, batch) -> (state, metrics)`, from `make_step`.
      state: the initial state, sharded.
      batches: opens the batches, beginning at a step.
      checkpoints: checkpoints of the run.
      config: the settings.
      folder: folder of the log.
      validate: parameters -> metrics; "score", higher is better, determines the best checkpoint.
      run_metadata: values, such as the digest of the split, that every checkpoint stores as JSON. A run
        resumes only with equal metadata.

    Raises:
      InputError: if the gradients stay non-finite, a checkpoint can be neither written nor read, or the
        metadata changed.
      Interrupted: after SIGTERM or Ctrl-C, when everything is saved.
    """
    mesh = jax.tree.leaves(state)[0].sharding.mesh
    state, progress = _resume(state, checkpoints, mesh, dict(run_metadata or {}))
    first = int(state.step)
    earlier_seconds, start = progress["seconds"], time.monotonic()
    with ExitStack() as stack:
        reporter = stack.enter_context(_Reporter(config, folder, first))
        is_interrupted = stack.enter_context(_interruption())
        for number, batch in stack.enter_context(batches(first)):
            if number >= config.steps or progress["stopped"]:
                break
            size = len(batch["image"]) * jax.process_count()
            on_device = {name: _put(values, mesh) for name, values in batch.items()}
            state, metrics = step(state, cast(Batch, on_device))
            done = number + 1
            reporter.report_previous()
            reporter.previous = done, metrics, size
            last = done == config.steps
            stopping = is_interrupted(done) and not last
            validating = validate is not None and (last or _is_due(done, config.validate_every))
            if validating or stopping or last or _is_due(done, config.checkpoint_every):
                # The log is written before the checkpoint, so a run that resumes here does not repeat it.
                reporter.report_previous()
                score = None
                if validate is not None and validating:
                    validation = validate(state.eval_params)
                    score = validation["score"]
                    reporter.log.write(done, {"validation": validation})
                    _update_best(progress, done, score, config.patience)
                progress["seconds"] = earlier_seconds + time.monotonic() - start
                checkpoints.save(state, progress, score)
            if stopping:
                checkpoints.wait()
                raise Interrupted(
                    f"stopped after step {done} of {config.steps}; the same command resumes from there"
                )
        reporter.report_previous()
    checkpoints.wait()
    return Result(state, progress["seconds"], progress["stopped"])


class _Reporter:
    """Progress bar and log; `previous` is a step whose metrics may still be computed by the device."""

    def __init__(self, config: FitConfig, folder: Path, first: int) -> None:
        is_main = jax.process_index() == 0
        self.log: Log | NoLog = Log(folder, start=first) if is_main else NoLog()
        self.previous: tuple[int, Mapping[str, Array], int] | None = None
        self._config = config
        self._bar = tqdm(
            total=config.steps,
            initial=first,
            unit="step",
            desc="train",
            disable=not is_main,
            dynamic_ncols=True,
        )

    def __enter__(self) -> _Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self.log.close()

    def report_previous(self) -> None:
        """Reports `previous`, if it is not reported yet.

        Raises:
          InputError: if too many consecutive steps were skipped.
        """
        if self.previous is None:
            return
        number, metrics, size = self.previous
        self.previous = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self._bar.update()
        rate = (self._bar.format_dict["rate"] or 0) * size
        self._bar.set_postfix_str(f"loss {values['loss']:.4f}, {rate:.1f} images/s", refresh=False)
        limit = self._config.max_consecutive_skips
        if values["consecutive_skips"] >= limit:
            raise InputError(
                f"the gradient was not finite {limit} times in a row, up to step {number}: lower"
                " config.optimizer.learning_rate or config.optimizer.clip, or look at the data"
            )
        if number % self._config.log_every == 0 or number == self._config.steps:
            self.log.write(number, {"train": values, "images_per_second": rate})


def _resume(
    state: State, checkpoints: Checkpoints, mesh: jax.sharding.Mesh, run_metadata: dict[str, Any]
) -> tuple[State, dict[str, Any]]:
    """Returns the state and the progress to start from."""
    restored = checkpoints.restore(state, mesh)
    if restored is None:
        return state, {
            "seconds": 0.0,
            "best": None,
            "since_best": 0,
            "stopped": False,
            "run_metadata": run_metadata,
        }
    state, progress = restored
    saved = progress["run_metadata"]
    for name in saved.keys() & run_metadata.keys():
        if saved[name] != run_metadata[name]:
            raise InputError(
                f"the run was started with {name} {saved[name]}, the data now have {run_metadata[name]}:"
                " start again with another --workdir"
            )
    checkpoints.forget_after(int(state.step))
    return state, progress


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _put(values: Any, mesh: jax.sharding.Mesh) -> jax.Array:
    return jax.make_array_from_process_local_data(batch_sharding(mesh), values)


def _update_best(progress: dict[str, Any], step: int, score: float, patience: int) -> None:
    best = progress["best"]
    if best is None or score > best["score"]:
        progress["best"], progress["since_best"] = {"step": step, "score": score}, 0
    else:
        progress["since_best"] += 1
    progress["stopped"] = bool(patience) and progress["since_best"] >= patience


@contextmanager
def _interruption() -> Iterator[Callable[[int], bool]]:
    """Catches SIGTERM and the first Ctrl-C; yields a function `step -> whether to stop after it`.

    If there are several processes, any of them may receive the signal; JAX's coordinator makes all stop after
    the same step.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    received = []

    def handle(number: int, _: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C stops at once

    previous = {}
    if threading.current_thread() is threading.main_thread():  # other threads cannot set handlers
        previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda _: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
