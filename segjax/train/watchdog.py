"""Says where a run hangs: writes the stacks of all threads when a step takes much longer than usual."""

from __future__ import annotations

import faulthandler
import logging
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger(__name__)
# A step is slow if it takes this many times the median of the last steps, and at least so many seconds.
FACTOR, MIN_SECONDS = 20.0, 5.0
# Steps before the first judgement: the first ones compile. Number of steps of the median.
WARM_UP, WINDOW = 5, 100


class Watchdog:
    """Watches the duration of steps in a thread.

    Args:
      path: file of the stacks.
      min_seconds: duration below which no step is slow.
    """

    def __init__(self, path: Path, *, min_seconds: float = MIN_SECONDS) -> None:
        self._path = path
        self._min_seconds = min_seconds
        self._durations: deque[float] = deque(maxlen=WINDOW)
        self._step = 0
        self._started: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def begin(self, step: int) -> None:
        """Starts to watch a step, by its number; the step before has ended."""
        now = time.monotonic()
        if self._started is not None:
            self._durations.append(now - self._started)
        self._step, self._started = step, now

    def pause(self) -> None:
        """Stops to watch the current step, which saves or validates."""
        self._started = None

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Leaves out the time within, in which other trainings of this process take their turns."""
        started, self._started = self._started, None
        before = time.monotonic()
        yield
        self._started = started and started + time.monotonic() - before

    def _watch(self) -> None:
        reported = None
        while not self._ended.wait(self._min_seconds / 10):
            step, started, durations = self._step, self._started, list(self._durations)
            if started is None or step == reported or len(durations) < WARM_UP:
                continue
            median, seconds = statistics.median(durations), time.monotonic() - started
            if seconds > max(FACTOR * median, self._min_seconds):
                reported = step
                self._report(step, seconds, median)

    def _report(self, step: int, seconds: float, median: float) -> None:
        sentence = f"step {step} takes {seconds:.0f} s so far, the median is {median:.3g} s"
        try:
            with self._path.open("a") as file:
                file.write(f"{sentence}\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
            _log.warning("%s: %s has what each thread does", sentence, self._path)
        except OSError:
            _log.warning("%s; each thread does this:", sentence)
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
