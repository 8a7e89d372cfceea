"""Time that the training loop adds to a step: checks, log, progress bar, watchdog, digests.

The loop is timed with a step that only counts, because a millisecond cannot be seen beside the noise of a
training step.
"""

import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Numbers of steps that are timed: training steps, and the loop. The difference of the latter two leaves out
# what happens once per run.
STEPS, SHORT, LONG = 5, 100, 1100


def main(config: Any, *, rounds: int) -> None:
    """Times a training step, the loop without it, and a checkpoint, and prints a table."""
    import jax

    from segjax.experiment import environment
    from segjax.experiment.sections import read_fit
    from segjax.experiment.setup import make_first_state, make_setup, make_stream, open_split
    from segjax.experiment.workdir import ModelMetadata
    from segjax.train.cost import KeyedStep
    from segjax.train.sharding import batch_sharding

    source = open_split(config, "train")
    metadata = ModelMetadata(tuple(source.class_names), source[0].image.shape[-1])
    setup = make_setup(config, metadata)
    batch = make_stream(config, source, setup.task).batch(0)
    state = make_first_state(config, metadata, setup)
    step = KeyedStep(setup.step, jax.random.key(config.seed))
    placed = jax.device_put(batch, batch_sharding(setup.mesh))
    counting = KeyedStep(counting_step(setup.step.trace(state, placed, step.key).out_info[1]), step.key)
    settings = dataclasses.replace(read_fit(config), validate_every=0, checkpoint_every=0)

    calls = {
        "step": lambda: run_bare(step, state, batch, STEPS),
        "bare": lambda: run_bare(counting, state, batch, LONG - SHORT),
        "short": lambda: run_loop(counting, state, batch, dataclasses.replace(settings, steps=SHORT)),
        "long": lambda: run_loop(counting, state, batch, dataclasses.replace(settings, steps=LONG)),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in (*calls, "digests", "checkpoint")}
    for index in range(rounds + 1):
        now = {name: call() for name, call in calls.items()}
        now["digests"], now["checkpoint"] = time_checkpoint(state)
        if index > 0:  # the first round compiles
            for name, value in now.items():
                times[name].append(value)
    where = environment.hardware_info()
    print(f"{where['device']}, {where['cores']} cores, jax {where['jax']}")
    print(table(times, config.train.checkpoint_every or config.steps))


def table(times: Mapping[str, list[tuple[float, float]]], interval: int) -> str:
    """Returns milliseconds and percent per step.

    Args:
      times: seconds, and seconds of all processors, of each call in each round.
      interval: steps between two checkpoints.
    """
    lines = []
    for name, column in (("time", 0), ("processor time", 1)):
        seconds = {name: statistics.median(pair[column] for pair in pairs) for name, pairs in times.items()}
        step = seconds["step"] / STEPS
        loop = (seconds["long"] - seconds["short"] - seconds["bare"]) / (LONG - SHORT)
        parts = {
            "loop": loop,
            "digests": seconds["digests"] / interval,
            "writing checkpoints": (seconds["checkpoint"] - seconds["digests"]) / interval,
        }
        lines.append(f"{name} of a training step: {1e3 * step:.0f} ms")
        lines += [f"  {part}: {1e3 * value:.2f} ms, {value / step:.2%}" for part, value in parts.items()]
    return "\n".join(lines)


def counting_step(metrics: Mapping[str, Any]) -> Any:
    """Returns a step that only counts, with metrics of these shapes."""
    import jax
    import jax.numpy as jnp

    def step(state: Any, _: Any, __: Any) -> Any:
        values = {name: jnp.zeros(value.shape, value.dtype) for name, value in metrics.items()}
        return dataclasses.replace(state, step=state.step + 1), values

    return jax.jit(step, donate_argnums=0)


def run_bare(step: Any, state: Any, batch: Mapping[str, Any], steps: int) -> tuple[float, float]:
    """Takes steps and does nothing else; returns `timed`."""
    import jax

    from segjax.train.sharding import batch_sharding

    state = copy(state)
    sharding = batch_sharding(jax.tree.leaves(state)[0].sharding.mesh)

    def run() -> None:
        current = state
        for _ in range(steps):
            current, _ = step(current, jax.device_put(batch, sharding))
        jax.block_until_ready(current)

    return timed(run)


def run_loop(step: Any, state: Any, batch: Mapping[str, Any], settings: Any) -> tuple[float, float]:
    """Takes steps as a training does, with a checkpoint at the end; returns `timed`."""
    from segjax.train.checkpoint import Checkpoints
    from segjax.train.loop import fit
    from segjax.train.members import train_alone
    from segjax.train.resume import Provenance, resume

    @contextlib.contextmanager
    def repeated(first: int) -> Iterator[Iterator[tuple[int, Mapping[str, Any]]]]:
        yield ((number, batch) for number in range(first, settings.steps))

    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder) / "checkpoints") as checkpoints:
        start = resume(copy(state), checkpoints, Provenance())
        return timed(
            lambda: train_alone(
                fit(step, start, repeated, checkpoints, settings, folder=Path(folder), validate=None)
            )
        )


def time_checkpoint(state: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns `timed` of the digests of a state, and of a checkpoint with them, until it is on disk."""
    from segjax.train.checkpoint import Checkpoints
    from segjax.train.state import digests

    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder) / "checkpoints") as checkpoints:
        first, second = copy(state), copy(state)  # an array keeps what was read of it

        def save() -> None:
            checkpoints.save(second, {"seconds": 0.0})
            checkpoints.wait()

        return timed(lambda: digests(vars(first))), timed(save)


def copy(state: Any) -> Any:
    """Returns a copy of a state, because a step donates its own."""
    import jax
    import jax.numpy as jnp

    return jax.block_until_ready(jax.tree.map(jnp.copy, state))


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Returns the seconds that a call takes, and the seconds of all processors."""
    began, processor_began = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - processor_began
