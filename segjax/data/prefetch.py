"""Prefetching of batches in background threads."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from segjax.data.stream import HostBatch, Stream
from segjax.errors import InputError


@contextlib.contextmanager
def prefetch(
    stream: Stream, start: int = 0, *, workers: int = 2, depth: int = 4
) -> Iterator[Iterator[tuple[int, HostBatch]]]:
    """Iterates over `(step, batch)` in order while threads make the next batches.

    The batches do not depend on the number of threads. An error in a thread is raised when its batch is
    requested. Leaving the `with` statement stops the threads.

    Args:
      stream: makes the batches.
      start: the first step.
      workers: number of threads; with 0, each batch is made when it is requested.
      depth: number of batches made ahead.

    Yields:
      An endless iterator over `(step, batch)`.

    Raises:
      InputError: if `workers` or `depth` is out of range, or a batch cannot be made.
    """
    if workers < 0 or depth < 1:
        raise InputError(
            f"workers is {workers} and depth {depth}; they must be at least 0 and 1", field="workers"
        )
    if workers == 0:
        yield ((step, stream.batch(step)) for step in itertools.count(start))
        return
    threads = ThreadPoolExecutor(workers, thread_name_prefix="batch")
    ahead = deque(threads.submit(stream.batch, start + index) for index in range(depth))

    def in_order() -> Iterator[tuple[int, HostBatch]]:
        for step in itertools.count(start):
            batch = ahead.popleft().result()
            # Refill the queue at once, so that threads work while the consumer does.
            ahead.append(threads.submit(stream.batch, step + depth))
            yield step, batch

    try:
        yield in_order()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
