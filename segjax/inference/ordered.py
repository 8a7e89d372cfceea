"""Work of several threads, whose results come in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def num_threads() -> int:
    """Returns the number of threads for work on the host: one for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(tasks: Iterable[Callable[[], Result]], workers: int | None = None) -> Iterator[Result]:
    """Runs tasks in threads and yields their results in order; at most `workers + 1` are in memory.

    Args:
      tasks: functions without arguments; taken only when a thread is free.
      workers: number of threads, by default `num_threads`.

    Raises:
      Exception: that of a task, when its result is due.
    """
    workers, remaining = workers or num_threads(), iter(tasks)
    pool = ThreadPoolExecutor(workers)
    ahead: deque[Future[Result]] = deque()
    try:
        for task in remaining:
            ahead.append(pool.submit(task))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
