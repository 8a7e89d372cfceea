"""Threads in place of processes: what is spread over several processes, without starting any."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
from jax.experimental import multihost_utils

from segjax.train import batches, processes


class Exchange:
    """Exchanges bytes and signals among threads, of which each counts as one process."""

    def __init__(self, count, stop_at=None):
        self.count, self.stop_at = count, stop_at
        self.own = threading.local()
        self.calls, self.contents = [0] * count, [b""] * count
        self.purposes = []
        self._barrier = threading.Barrier(count)

    def exchange(self, content, purpose, limit):
        index = self.own.index
        self.contents[index] = content
        self._barrier.wait(timeout=20)
        contents = list(self.contents)
        self._barrier.wait(timeout=20)
        if index == 0:
            self.purposes.append(purpose)
        return contents

    def is_stop_point(self, number):
        self.calls[self.own.index] += 1
        return self.calls[self.own.index] == self.stop_at

    def run(self, function):
        """Returns the result of a function in each process, or its exception."""

        def run_one(index):
            self.own.index = index
            try:
                return function()
            except Exception as error:
                return error

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(run_one, range(self.count)))


def run_processes(monkeypatch, count, function, *, stop_at=None):
    """Returns the result of a function in each of several processes, or its exception; and the exchange.

    SIGTERM arrives such that all stop at call `stop_at` of their checks.
    """
    several = Exchange(count, stop_at)
    with monkeypatch.context() as patch:
        patch.setattr(processes, "_exchange", several.exchange)
        patch.setattr(batches, "exchange_errors", processes.exchange)
        patch.setattr(jax, "process_count", lambda: count)
        patch.setattr(jax, "process_index", lambda: several.own.index)
        patch.setattr(multihost_utils, "reached_preemption_sync_point", several.is_stop_point)
        return several.run(function), several
