"""Several processes that train one network: they connect, agree, and tell each other when one fails."""

from __future__ import annotations

import atexit
import hashlib
import itertools
import json
import os
import pickle
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from segjax.errors import InputError, Interrupted
from segjax.train.launch import Launch
from segjax.train.supervision import LOST, LOST_SENTENCE

T = TypeVar("T")
# Seconds that processes wait for each other, outside of training steps.
LIMIT = 600.0
# The same where one of them may work for hours, such as on its part of a split.
LONG_LIMIT = 24 * 3600.0
# Seconds without a sign of life after which a process counts as lost, as is JAX's default.
HEARTBEAT = 100
# Seconds after which the first process ends, which the others would take for a loss of the connection.
GRACE = 2.0
# Bytes that are exchanged at once; each size is compiled once.
BLOCK = 2**24
# Numbers the calls of `is_stop_requested`, by which JAX's coordinator finds the one at which all stop.
_calls = itertools.count(1)
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
            heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=int(LONG_LIMIT)
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
            shutdown_timeout_seconds=int(LONG_LIMIT),
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


def exchange(text: str, purpose: str, *, limit: float | None = None) -> list[str]:
    """Returns the texts of all processes, by their index; all processes call it.

    Args:
      text: text of this process.
      purpose: what the processes agree on, for the message if one of them does not come in time; the process
        then ends with exit code 75.
      limit: seconds to wait for the others; `LIMIT` if None.
    """
    return [content.decode() for content in _exchange(text.encode(), purpose, limit)]


def _exchange(content: bytes, purpose: str, limit: float | None) -> list[bytes]:
    if jax.process_count() == 1:
        return [content]
    own_length = np.array([len(content)], np.int64).view(np.uint8)
    with _limited(purpose, LIMIT if limit is None else limit):
        lengths = np.asarray(multihost_utils.process_allgather(own_length)).view(np.int64).ravel()
        longest = max(int(lengths.max()), 1)
        size = min(BLOCK, 2 ** (longest - 1).bit_length())
        padded = np.zeros(-(-longest // size) * size, np.uint8)
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        blocks = [multihost_utils.process_allgather(block) for block in padded.reshape(-1, size)]
    rows = np.concatenate([np.asarray(block) for block in blocks], axis=1)
    return [bytes(row[:length]) for row, length in zip(rows, lengths, strict=True)]


@contextmanager
def all_or_none(
    purpose: str,
    kind: type[Exception] = InputError,
    *,
    limit: float | None = None,
    swap: Callable[..., list[str]] | None = None,
) -> Iterator[None]:
    """Raises the error of any process in all of them, so that none waits for another that gave up.

    All processes enter it. Nothing within may wait for another process.

    Args:
      purpose: as in `exchange`.
      kind: the type of the errors that all processes raise. An error of another type is a crash: the process
        raises it, the others raise `Interrupted` with exit code 1.
      limit: as in `exchange`.
      swap: a function to use in place of `exchange`, with the same arguments.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    own = None if error is None else [isinstance(error, kind), str(error) or type(error).__name__]
    problems = [json.loads(text) for text in (swap or exchange)(json.dumps(own), purpose, limit=limit)]
    if error is not None:
        raise error
    for index, problem in enumerate(problems):
        if problem is None:
            continue
        is_kind, sentence = problem
        if is_kind:
            raise kind(f"process {index}: {sentence}")
        raise Interrupted(f"process {index} failed in {purpose}: {sentence}", exit_code=1)


def spread(
    function: Callable[[int], T],
    count: int,
    purpose: str,
    *,
    bar: bool = True,
    check: Callable[[], None] | None = None,
) -> list[T]:
    """Returns `function` of 0 to `count` - 1, each computed by one process, in all processes.

    All processes call it. Process p of P computes p, p + P, and so on: as many at once as it has GPUs or
    TPUs, each in a thread with one of them as its default device. Nothing in `function` may wait for another
    process. An error of one process ends all, see `all_or_none`.

    Args:
      function: computes one result, such as the scores of an image.
      count: number of results.
      purpose: what is computed, for messages and the progress bar.
      bar: whether to show a progress bar, with the images of this process.
      check: called between results, equally often in all processes; it raises an exception in all of them to
        stop. If None, SIGTERM to any process raises `Interrupted`.
    """
    num_processes, devices = jax.process_count(), _prediction_devices()
    indices = range(jax.process_index(), count, num_processes)
    own: list[T] = []
    error: Exception | None = None
    with tqdm(total=len(indices), desc=purpose, unit="image", disable=not bar, leave=False) as progress:
        # The first process has as many results as any other.
        for start in range(0, len(range(0, count, num_processes)), len(devices)):
            (check or _stop_if_requested)()
            if error is None:
                try:
                    own += _compute(function, indices[start : start + len(devices)], devices)
                except Exception as caught:  # told to the others below
                    error = caught
            progress.update(len(own) - progress.n)
    with all_or_none(purpose, limit=LONG_LIMIT):
        if error is not None:
            raise error
    if num_processes == 1:
        return own
    # The other processes run this same command, so their pickles are no foreign data.
    parts = _exchange(zlib.compress(pickle.dumps(own), 1), purpose, LIMIT)
    results: list[Any] = [None] * count
    for process, part in enumerate(parts):
        results[process::num_processes] = pickle.loads(zlib.decompress(part))
    return results


def _prediction_devices() -> list[jax.Device]:
    """Returns the devices that predict at the same time; several CPU devices are the same processor."""
    devices = jax.local_devices()
    return devices[:1] if devices[0].platform == "cpu" else devices


def _compute(function: Callable[[int], T], indices: range, devices: Sequence[jax.Device]) -> list[T]:
    """Returns the results of at most as many indices as there are devices."""
    if len(devices) == 1:
        return [function(index) for index in indices]

    def compute(index: int, device: jax.Device) -> T:
        with jax.default_device(device):
            return function(index)

    with ThreadPoolExecutor(len(devices)) as pool:
        return list(pool.map(compute, indices, devices))


def is_stop_requested() -> bool:
    """Returns whether one of several processes received SIGTERM: in all of them at the same call.

    All processes call it equally often.
    """
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(next(_calls))


def _stop_if_requested() -> None:
    if is_stop_requested():
        raise Interrupted("stopped; the same command starts again", exit_code=128 + signal.SIGTERM)


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
def _limited(purpose: str, limit: float) -> Iterator[None]:
    timer = threading.Timer(limit, _give_up, (purpose, limit))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_up(purpose: str, limit: float) -> None:
    # The first thread waits in the runtime, where no exception reaches it.
    message = f"\nafter {limit:.0f} s, not all processes agree on {purpose}: {LOST_SENTENCE}\n"
    os.write(2, message.encode())
    os._exit(LOST)
