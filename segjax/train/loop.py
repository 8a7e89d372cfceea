"""The training loop of every network."""

from __future__ import annotations

import functools
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from segjax.errors import InputError
from segjax.train.batches import until_error
from segjax.train.checkpoint import Checkpoints, is_better
from segjax.train.cost import KeyedStep
from segjax.train.fit_config import FitConfig
from segjax.train.interruption import Interruption, interruption
from segjax.train.log import Log, NoLog
from segjax.train.members import Request, Training
from segjax.train.processes import exchange, is_stop_requested
from segjax.train.profiling import Observer
from segjax.train.reporting import FINITE, Reporter
from segjax.train.resume import Start
from segjax.train.sharding import batch_sharding, on_one_device
from segjax.train.state import State
from segjax.typing import Array, Batch, Params

_log = logging.getLogger(__name__)
RESUME = "the same command resumes from there"

# Opens an iterator over `(step, batch)` that begins at a step; while it is open, batches are made ahead.
Batches = Callable[[int], AbstractContextManager[Iterator[tuple[int, Mapping[str, Any]]]]]
# `(parameters on one device, check) -> metrics`; it calls `check()` between two images, equally often in all
# processes.
Validate = Callable[[Params, Callable[[], None]], dict[str, Any]]


class Result(NamedTuple):
    """Result of a run that is finished or pauses.

    Attributes:
      state: state after the last step.
      seconds: duration of the loop, including earlier attempts at the same run.
      stopped_early: whether the run ended early, because validation no longer improved.
      paused: whether the run is not finished, see `FitConfig.pause`.
    """

    state: State
    seconds: float
    stopped_early: bool
    paused: bool = False


def fit(
    step: KeyedStep,
    start: Start,
    batches: Batches,
    checkpoints: Checkpoints,
    config: FitConfig,
    *,
    folder: Path,
    validate: Validate | None,
    image_names: Callable[[int], Sequence[str]] | None = None,
) -> Training[Result]:
    """Trains up to `config.steps`, or `config.pause`: a generator for `train_alone` or `train_together`.

    The order within a step: take the batch, start the step on the device, and only then read the metrics of
    the step before, so that the device never waits for the host. Validation uses the state after the step,
    which is saved first; its score is added to the checkpoint.

    Args:
      step: the step, with the key of the run.
      start: from `resume`.
      batches: opens the batches, beginning at a step.
      checkpoints: checkpoints of the run.
      config: the settings.
      folder: folder of the log.
      validate: `(parameters, check) -> metrics`; "score", higher is better, determines the best checkpoint.
        It calls `check()` between two images, which ends it if the process was asked to stop.
      image_names: returns the names of the images in the batch of a step, for messages.

    Yields:
      Each step, and takes its result.

    Returns:
      The result of the run.

    Raises:
      Diverged: if the gradients stay non-finite, or the parameters become so.
      InputError: if a checkpoint cannot be written; or if a process cannot make a batch, when everything is
        saved.
      Interrupted: after SIGTERM or Ctrl-C, when everything is saved.
    """
    state, progress = start.state, {**start.progress, "stopped": _stops(start.progress, config.patience)}
    first, mesh = int(state.step), jax.tree.leaves(state)[0].sharding.mesh
    with ExitStack() as stack:
        is_validated = not first or checkpoints.is_validated(first)
        log = _open_log(folder, start, is_validated, config.track)
        observer = stack.enter_context(Observer(folder, profile=config.profile))
        reporter = stack.enter_context(Reporter(config, log, start, image_names, observer))
        asked = stack.enter_context(interruption())
        saving = _Saving(progress, checkpoints, observer, reporter)

        def run_validation(done: int, params: Params) -> None:
            assert validate is not None
            metrics = validate(on_one_device(params), functools.partial(_check_together, asked))
            # Processors may differ in the last bit, and with it in the decision to stop.
            score = float(exchange(repr(float(metrics["score"])), "the validation score")[0])
            log.write(done, {"validation": metrics})
            _update_best(progress, done, score, config.patience)
            saving.note_time()
            checkpoints.record_validation(done, progress, score)

        if first and not is_validated and _is_validating(first, validate, config):
            run_validation(first, state.eval_params)  # the run was stopped before
        taken = until_error(stack.enter_context(batches(first)), first)
        for number, batch in observer.steps(taken, first):
            if number >= min(config.pause or config.steps, config.steps) or progress["stopped"]:
                break
            if isinstance(batch, InputError):
                saving.save(state)
                checkpoints.wait()
                raise batch
            placed = _put(batch, mesh)
            with observer.suspended():
                state, metrics = yield Request(step, state, placed)
            metrics = {**metrics, FINITE: _are_finite(state.params)}
            if number == first:
                reporter.note_cost(step.cost(state, placed), first)
            done = number + 1
            reporter.report_previous()
            reporter.previous = done, metrics, len(placed["image"])
            validating = _is_validating(done, validate, config)
            stopping = _is_asked_to_stop(asked) and (validating or done < config.steps)
            if validating or stopping or _is_due(done, config.checkpoint_every, config.steps, config.pause):
                saving.save(state)
            if stopping or validating:
                checkpoints.wait()
            if stopping:
                raise asked.interrupted(f"stopped after step {done} of {config.steps}; {RESUME}")
            if validating:
                run_validation(done, state.eval_params)
        reporter.report_previous()
    checkpoints.wait()
    return _result(state, progress, config)


class _Saving:
    """Saves the state of a run with its progress.

    Args:
      progress: what a checkpoint stores besides the state; its `seconds` are those of earlier attempts.
      checkpoints: the checkpoints of the run.
      observer: observes the steps.
      reporter: writes the log.
    """

    def __init__(
        self, progress: dict[str, Any], checkpoints: Checkpoints, observer: Observer, reporter: Reporter
    ) -> None:
        self._progress, self._checkpoints = progress, checkpoints
        self._observer, self._reporter = observer, reporter
        self._earlier_seconds, self._started = progress["seconds"], time.monotonic()

    def save(self, state: State) -> None:
        """Starts to save a state; the one before the first step is not saved."""
        self._observer.pause()
        # The log is written before the checkpoint, so a run that resumes here does not repeat it.
        self._reporter.report_previous()
        self.note_time()
        if int(state.step):
            self._checkpoints.save(state, self._progress)

    def note_time(self) -> None:
        """Notes how long the run takes so far."""
        self._progress["seconds"] = self._earlier_seconds + time.monotonic() - self._started


def _result(state: State, progress: Mapping[str, Any], config: FitConfig) -> Result:
    is_paused = int(state.step) < config.steps and not progress["stopped"]
    stopped_early = progress["stopped"] and int(state.step) < config.steps
    return Result(state, progress["seconds"], stopped_early, is_paused)


def _open_log(folder: Path, start: Start, is_validated: bool, track: str) -> Log | NoLog:
    """Opens the log in the first process, and notes what has changed since the run was stopped."""
    first = int(start.state.step)
    log: Log | NoLog = NoLog()
    if jax.process_index() == 0:
        log = Log(folder, start=first, is_validated=is_validated, track=track, set_aside=start.set_aside)
    if start.changes:
        log.note(first, {"changes": start.changes})
    if start.rollback:
        log.note(first, {"rollback": start.rollback._asdict()})
    return log


def _is_validating(step: int, validate: Validate | None, config: FitConfig) -> bool:
    return validate is not None and _is_due(step, config.validate_every, config.steps)


@jax.jit
def _are_finite(params: Params) -> Array:
    """Returns whether all parameters are finite; within the step, this would change its rounding."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


def _is_due(step: int, every: int, *always: int) -> bool:
    """Returns whether something happens after a step: at regular intervals, and after certain steps."""
    return step in always or (every > 0 and step % every == 0)


def _put(batch: Mapping[str, Any], mesh: jax.sharding.Mesh) -> Batch:
    """Returns the batch of all processes, split over their devices."""
    sharding = batch_sharding(mesh)
    arrays = {
        name: jax.make_array_from_process_local_data(sharding, values) for name, values in batch.items()
    }
    return cast(Batch, arrays)


def _is_asked_to_stop(asked: Interruption) -> bool:
    """Returns whether to stop after a step; without other processes, signals are caught from now on."""
    if jax.process_count() == 1:
        asked.arm()
    _ask_all(asked)
    return asked.number is not None


def _ask_all(asked: Interruption) -> None:
    """Notes a signal that another process may have received: all stop after the same step or image."""
    if is_stop_requested():
        asked.number = signal.SIGTERM


def _check_together(asked: Interruption) -> None:
    """Raises `Interrupted` if any process was asked to stop."""
    _ask_all(asked)
    asked.check()


def _update_best(progress: dict[str, Any], step: int, score: float, patience: int) -> None:
    best = progress["best"]
    if is_better(score, best and best["score"]):
        progress["best"], progress["since_best"] = {"step": step, "score": score}, 0
    else:
        progress["since_best"] += 1
    progress["stopped"] = _stops(progress, patience)


def _stops(progress: Mapping[str, Any], patience: int) -> bool:
    """Returns whether a run stops early; its patience may have changed since it was saved."""
    return bool(patience) and progress["since_best"] >= patience
