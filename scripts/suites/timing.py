"""Interleaved timing with warm-up and the median over rounds."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def measure(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Returns the median seconds of each call. Calls alternate so that load changes affect all equally."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if index > 0:  # the first call warms up
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def print_hardware() -> None:
    """Prints the device, its cores, and the versions of JAX and Python."""
    from segjax.experiment import environment

    where = environment.hardware_info()
    print(f"{where['device']}, {where['cores']} cores, jax {where['jax']}, Python {where['python']}")
