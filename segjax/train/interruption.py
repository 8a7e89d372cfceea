"""Ends a run on SIGTERM or Ctrl-C such that nothing is lost: at once, or after the step that is computed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from segjax.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# The contexts of `interruption` that are entered.
_entered: list[Interruption] = []


def leave_at_once() -> None:
    """Lets SIGTERM and Ctrl-C end the process at once, with exit code 128 + number and no traceback.

    For a process that has nothing to save: at its start, while it compiles, and while it evaluates.
    Python runs a handler only between two instructions of the main thread, which a compilation delays, and an
    exception that a handler raises may be swallowed. Here a thread ends the process.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    for number in SIGNALS:
        signal.signal(number, _nothing)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_leave_on_signal, args=(read,), name="signals", daemon=True).start()


class Interruption:
    """Remembers whether the process was asked to stop."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, object] = {}

    def arm(self) -> None:
        """From now on, SIGTERM and the first Ctrl-C are remembered; a second Ctrl-C ends the process at once.

        Before, nothing is worth saving, and signals do what they did before.
        """
        # Other threads than the first cannot set handlers.
        if self._previous or threading.current_thread() is not threading.main_thread():
            return
        self._wakeup_fd = signal.set_wakeup_fd(-1)
        self._previous = {number: signal.signal(number, self._remember) for number in SIGNALS}

    def disarm(self) -> None:
        """Undoes `arm`."""
        if not self._previous:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        self._previous = {}

    def check(self) -> None:
        """Raises `Interrupted` if the process was asked to stop."""
        if self.number is not None:
            raise self.interrupted("stopped; the same command resumes from the last checkpoint")

    def interrupted(self, message: str) -> Interrupted:
        """Returns the exception with the exit code of the signal."""
        return Interrupted(message, exit_code=128 + (self.number or signal.SIGINT))

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Yields an `Interruption`, the same one to all that are entered at a time, as a signal is for all.

    After the last one has left, signals do what they did before.
    """
    asked = _entered[0] if _entered else Interruption()
    _entered.append(asked)
    try:
        yield asked
    finally:
        _entered.pop()
        if not _entered:
            asked.disarm()


def _nothing(number: int, _: FrameType | None) -> None:
    """With a handler, Python writes the number of the signal to the pipe."""


def _leave_on_signal(pipe: int) -> None:
    while number := int.from_bytes(os.read(pipe, 1)):
        if number in SIGNALS:
            os.write(2, b"\nstopped\n")
            os._exit(128 + number)
