"""Runs a training in a child process: starts it again after a crash, and says if another process is lost.

JAX aborts a process whose connection to the others is lost, so nothing in that process can say why.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import FrameType

# Exit code if another process of the run ended or cannot be reached: "temporary failure" of sysexits.h.
LOST = 75
LOST_SENTENCE = (
    "another process of this run ended or cannot be reached; the same command on all hosts resumes from the"
    " last checkpoint"
)
# Exit codes after which a further start would end in the same way: success, and invalid input.
FINAL = (0, 2)
STOPS = (signal.SIGTERM, signal.SIGINT)
MAX_DELAY = 60.0
# Holds, in the child, the pipe that closes when its parent ends.
PARENT = "SEGJAX_PARENT_PIPE"


def supervise(*, restarts: int, several: bool) -> None:
    """Runs the command of this process in a child; returns in the child only.

    SIGTERM and Ctrl-C are passed to the child, which saves and stops. If this process ends, so does the
    child.

    Args:
      restarts: how often the child is started again after a crash.
      several: whether the child is one of several processes, which stop together by SIGTERM only.

    Raises:
      SystemExit: in the parent, with the exit code of the last child: 75 if another process is lost.
    """
    if PARENT in os.environ:
        threading.Thread(target=_stop_with_parent, args=(int(os.environ.pop(PARENT)),), daemon=True).start()
        return
    child = _Child(several)
    for attempt in range(restarts + 1):
        code = child.run()
        if several and code == 128 + signal.SIGABRT:
            code = LOST
            _say(LOST_SENTENCE)
        if code in FINAL or child.asked is not None or code - 128 in STOPS or attempt == restarts:
            sys.exit(code)
        delay = min(2.0**attempt, MAX_DELAY)
        _say(
            f"training ended with exit code {code}; it starts again in {delay:.0f} s,"
            f" restart {attempt + 1} of {restarts}"
        )
        if child.stopped.wait(delay):
            sys.exit(128 + (child.asked or signal.SIGTERM))


class _Child:
    """Runs the child and passes signals to it.

    Attributes:
      asked: the first signal to stop.
      stopped: is set with it.
    """

    def __init__(self, several: bool) -> None:
        self.asked: int | None = None
        self.stopped = threading.Event()
        self._several = several
        self._process: subprocess.Popen[bytes] | None = None
        for number in STOPS:
            signal.signal(number, self._pass_on)

    def run(self) -> int:
        """Returns the exit code of the command: 128 + number if a signal ended it."""
        read, write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env=os.environ | {PARENT: str(read)},
            pass_fds=(read,),
            # A group of its own: Ctrl-C in the terminal reaches the child through this process only.
            process_group=0,
        )
        if self.asked is not None:  # before there was a child
            self._pass_on(self.asked, None)
        code = self._process.wait()
        os.close(read)
        os.close(write)
        code = 128 - code if code < 0 else code
        is_translated = self._several and self.asked == signal.SIGINT and code == 128 + signal.SIGTERM
        return 128 + signal.SIGINT if is_translated else code

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self.asked = self.asked or number
        self.stopped.set()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM if self._several else number)


def _stop_with_parent(pipe: int) -> None:
    os.read(pipe, 1)  # returns when the parent has ended
    os.kill(os.getpid(), signal.SIGTERM)


def _say(sentence: str) -> None:
    print(f"\n{sentence}", file=sys.stderr, flush=True)
