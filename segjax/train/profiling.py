"""Observes a training loop: the time that it waits for data, steps that hang, a trace of some steps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import jax

from segjax.train.watchdog import Watchdog

# Folder of the trace in the folder of the run; steps before it begins, of which the first one compiles.
FOLDER, WARM_UP = "profile", 5


class Observer:
    """Observes the steps of a loop.

    Args:
      folder: folder of the run, for `profile/` and `stacks.txt`.
      profile: number of steps of the trace; 0 for no trace. The first process writes it.
    """

    def __init__(self, folder: Path, *, profile: int = 0) -> None:
        self._folder = folder / FOLDER
        self._profile = profile if jax.process_index() == 0 else 0
        self._watchdog = Watchdog(folder / f"stacks{jax.process_index() or ''}.txt")
        self._stack = ExitStack()
        self._waited = 0.0
        self._since = time.monotonic()
        self._is_tracing = False

    def __enter__(self) -> Observer:
        self._stack.enter_context(self._watchdog)
        self._stack.callback(self._stop_trace)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def steps(self, batches: Iterator[tuple[int, Any]], first: int) -> Iterator[tuple[int, Any]]:
        """Iterates over `(step, batch)` from the first step on; a step lasts until the next is requested."""
        for index in itertools.count():
            if self._profile:
                self._trace(index)
            self._watchdog.begin(first + index + 1)
            before = time.monotonic()
            item = next(batches, None)
            self._waited += time.monotonic() - before
            if item is None:
                return
            yield item

    def pause(self) -> None:
        """Says that the rest of the current step saves or validates."""
        self._watchdog.pause()

    def suspended(self) -> AbstractContextManager[None]:
        """Leaves the time within out of the duration of the step."""
        return self._watchdog.suspended()

    def data_wait(self) -> float:
        """Returns the fraction of time spent waiting for batches since the last call."""
        now = time.monotonic()
        fraction = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        return fraction

    def _trace(self, index: int) -> None:
        if index == WARM_UP:
            jax.profiler.start_trace(self._folder)
            self._is_tracing = True
        elif index == WARM_UP + self._profile:
            self._stop_trace()

    def _stop_trace(self) -> None:
        if self._is_tracing:
            self._is_tracing = False
            jax.profiler.stop_trace()
