"""Several processes that train one network: they connect, agree, and tell each other when one fails."""

from __future__ import annotations

import atexit
import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from segjax.errors import InputError, Interrupted
from segjax.train.launch import Launch
from segjax.train.supervision import LOST, LOST_SENTENCE

# Seconds that processes wait for each other, outside of training steps.
LIMIT = 600.0
# Processes that have finished wait for the first one, which may fit a decoder for hours.
SHUTDOWN_LIMIT = 24 * 3600
# Seconds without a sign of life after which a process counts as lost, as is JAX's default.
HEARTBEAT = 100
# Seconds after which the first process ends, which the others would take for a loss of the connection.
GRACE = 2.0
# Words in the errors of JAX, Gloo and NCCL if the connection to another process is lost.
LOST_WORDS = ("gloo", "nccl", "coordination", "heartbeat", "unavailable", "deadline_exceeded", "connection")


@contextmanager
def connected(launch: Launch | None) -> Iterator[None]:
    """Connects this process with the others.

    A process that fails ends without waiting for the others, which would wait for it.

    Raises:
      Interrupted: with exit code 75, if the others cannot be reached, at the start or later.
    """
    if launch is None:
        yield
        return
    try:
        _initialize(launch)
        yield
    except BaseException as error:  # includes Ctrl-C
        if isinstance(error, jax.errors.JaxRuntimeError) and _is_lost(error):
            lost = Interrupted(LOST_SENTENCE, exit_code=LOST)
            _end_at_once(lost, launch)
            raise lost from error
        _end_at_once(error, launch)
        raise


def _initialize(launch: Launch) -> None:
    if launch.coordinator is None:
        jax.distributed.initialize(
            heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=SHUTDOWN_LIMIT
        )
        return
    try:
        jax.distributed.initialize(
            launch.coordinator,
            launch.num_processes,
            launch.process_id,
            local_device_ids=launch.local_devices,
            cluster_detection_method="deactivate",
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN_LIMIT,
        )
    except jax.errors.JaxRuntimeError as error:
        raise Interrupted(
            f"the {launch.num_processes} processes do not all reach {launch.coordinator}"
            f" ({str(error).splitlines()[0]}): start the same command on all hosts, and open that port",
            exit_code=LOST,
        ) from error


def _is_lost(error: Exception) -> bool:
    return any(word in str(error).lower() for word in LOST_WORDS)


def _end_at_once(error: BaseException, launch: Launch) -> None:
    """Lets the process end without JAX's shutdown, in which it would wait for the others."""
    if isinstance(error, Interrupted):
        code = error.exit_code
    else:
        code = {InputError: 2, KeyboardInterrupt: 130}.get(type(error), 1)

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        if launch.process_id == 0:
            time.sleep(GRACE)
        os._exit(code)

    atexit.register(end)  # runs before JAX's, which was registered earlier


def exchange(text: str, purpose: str) -> list[str]:
    """Returns the texts of all processes, by their index; all processes call it.

    Args:
      text: text of this process.
      purpose: what the processes agree on, for the message if one of them does not come within 10 minutes;
        the process then ends with exit code 75.
    """
    if jax.process_count() == 1:
        return [text]
    content = np.frombuffer(text.encode(), np.uint8)
    with _limited(purpose):
        lengths = np.asarray(multihost_utils.process_allgather(np.array([len(content)]))).ravel()
        padded = np.zeros(max(lengths.max(), 1), np.uint8)
        padded[: len(content)] = content
        rows = np.asarray(multihost_utils.process_allgather(padded))
    return [bytes(row[:length]).decode() for row, length in zip(rows, lengths, strict=True)]


@contextmanager
def all_or_none(purpose: str, kind: type[Exception] = InputError) -> Iterator[None]:
    """Raises the error of any process in all of them, so that none waits for another that gave up.

    All processes enter it. Nothing within may wait for another process.

    Args:
      purpose: as in `exchange`.
      kind: the type of the error.
    """
    error = None
    try:
        yield
    except kind as caught:
        error = caught
    problems = exchange("" if error is None else str(error) or kind.__name__, purpose)
    if error is not None:
        raise error
    for index, problem in enumerate(problems):
        if problem:
            raise kind(f"process {index}: {problem}")


def check_equal(text: str, name: str) -> None:
    """Checks that all processes have the same text.

    Args:
      text: text of this process.
      name: what it is, for the message.

    Raises:
      InputError: if they differ; in all processes.
    """
    all_digests = exchange(hashlib.sha256(text.encode()).hexdigest(), name)
    for index, digest in enumerate(all_digests):
        if digest != all_digests[0]:
            raise InputError(
                f"process {index} has another {name} than process 0: start the same command on all hosts, or"
                " train with each process alone by --nodistributed"
            )


@contextmanager
def _limited(purpose: str) -> Iterator[None]:
    timer = threading.Timer(LIMIT, _give_up, (purpose,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_up(purpose: str) -> None:
    # The first thread waits in the runtime, where no exception reaches it.
    message = f"\nafter {LIMIT:.0f} s, not all processes agree on {purpose}: {LOST_SENTENCE}\n"
    os.write(2, message.encode())
    os._exit(LOST)
