"""Computes several results at the same time, and yields them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_results(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    compiles: Callable[[Result], bool],
    is_stopped: Callable[[], bool],
) -> Iterator[tuple[Item, Result]]:
    """Yields each item with the result of a function, in the order of the items.

    Args:
      function: computes a result, in a thread if there are several workers.
      items: the items.
      workers: number of results in progress at the same time.
      compiles: returns whether the programs that the other results use were compiled for this result. Until
        one is, results are computed one at a time, so that each program is compiled once.
      is_stopped: returns whether to begin no further result; results in progress are finished.

    Raises:
      KeyboardInterrupt: if `is_stopped` returns True before the last item.
    """
    following, limit = iter(items), 1
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            while len(waiting) < limit and not is_stopped():
                item = next(following, None)
                if item is None:
                    break
                waiting.append((item, _start(pool, workers, function, item)))
            if not waiting and next(following, None) is not None:
                raise KeyboardInterrupt
            if not waiting:
                return
            item, future = waiting.popleft()
            result = future.result()
            yield item, result
            if compiles(result):
                limit = workers
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start(
    pool: ThreadPoolExecutor, workers: int, function: Callable[[Item], Result], item: Item
) -> Future[Result]:
    if workers > 1:
        return pool.submit(function, item)
    # Runs in this thread, which a second Ctrl-C interrupts at once.
    future: Future[Result] = Future()
    future.set_result(function(item))
    return future
