"""Interleaves trainings of one network, so that the device computes one step of each per round.

A training is a generator: it yields each step that it waits for, and takes the result. Everything else, such
as log, checkpoints and validation, is its own. A training that ends or fails leaves the others as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from segjax.errors import InputError, Interrupted
from segjax.train.cost import KeyedStep
from segjax.train.sharding import replicated
from segjax.train.state import State
from segjax.train.step import Step
from segjax.typing import Array, Batch

T = TypeVar("T")
# Platforms that compute the steps that different threads start at the same time, and those of one thread in
# turn. On a CPU, one program that is vectorised over four members takes 11 times the processor time of a
# step, as each member has its own kernels for its convolutions; four programs take 4 times.
CONCURRENT = ("cpu",)


class Request(NamedTuple):
    """A step that a training waits for.

    Attributes:
      step: the step.
      state: the state, which the step may donate.
      batch: the batch.
    """

    step: KeyedStep
    state: State
    batch: Batch


# `(state, metrics)` after a step.
Answer = tuple[State, Mapping[str, Array]]
Training = Generator[Request, Answer, T]


def train_alone(training: Training[T]) -> T:
    """Runs a training to its end.

    Raises:
      InputError, Interrupted: those of the training.
    """
    (outcome,) = train_together([training])
    if isinstance(outcome, InputError):
        raise outcome
    return outcome


def train_together(trainings: Sequence[Training[T]]) -> list[T | InputError]:
    """Runs trainings to their ends, a step of each at a time.

    Args:
      trainings: the trainings.

    Returns:
      The result of each, or the error that ended it.

    Raises:
      Interrupted: if the process was asked to stop; all trainings have saved.
    """
    outcomes: list[T | InputError | Interrupted | None] = [None] * len(trainings)
    answers: dict[int, Answer | None] = dict.fromkeys(range(len(trainings)))
    with ExitStack() as stack:
        threads = [stack.enter_context(ThreadPoolExecutor(1, "member")) for _ in trainings]
        for training in trainings:
            stack.enter_context(closing(training))
        while answers:
            requests: dict[int, Request] = {}
            for index, answer in answers.items():
                try:
                    requests[index] = trainings[index].send(answer)  # type: ignore[arg-type] # None at first
                except StopIteration as ended:
                    outcomes[index] = ended.value
                except (InputError, Interrupted) as error:
                    outcomes[index] = error
            answers = _take(requests, threads)
    for outcome in outcomes:
        if isinstance(outcome, Interrupted):
            raise outcome
    return outcomes  # type: ignore[return-value] # each training has ended


def _take(requests: Mapping[int, Request], threads: Sequence[ThreadPoolExecutor]) -> dict[int, Answer | None]:
    """Starts the steps that trainings wait for, by the index of the training; each has a thread."""
    answers: dict[int, Answer | None] = {}
    if len(threads) == 1:
        return {index: request.step(request.state, request.batch) for index, request in requests.items()}
    groups: dict[Step, dict[int, Request]] = {}
    for index, request in requests.items():
        groups.setdefault(request.step.step, {})[index] = request
    for group in groups.values():
        mesh = jax.tree.leaves(next(iter(group.values())).state)[0].sharding.mesh
        if mesh.devices.flat[0].platform in CONCURRENT:
            started = {
                index: threads[index].submit(request.step, request.state, request.batch)
                for index, request in group.items()
            }
            answers |= {index: future.result() for index, future in started.items()}
        else:
            answers |= dict(zip(group, _take_joined([*group.values()], len(threads), mesh), strict=False))
    return answers


def _take_joined(requests: Sequence[Request], width: int, mesh: Mesh) -> tuple[Answer, ...]:
    """Takes steps in one program for `width` members, so that the bits do not depend on how many are left."""
    first = requests[0]
    copies = [first._replace(state=jax.tree.map(jnp.copy, first.state)) for _ in range(width - len(requests))]
    steps, states, batches = zip(*requests, *copies, strict=True)
    step: Any = first.step.step
    return _joined(step, mesh)(states, batches, tuple(keyed.key for keyed in steps))


@functools.lru_cache(maxsize=8)
def _joined(step: Any, mesh: Mesh) -> Step:
    """Makes the program `(states, batches, keys) -> ((state, metrics), ...)`, vectorised over the members."""

    def joined(*members: tuple[Any, ...]) -> tuple[Any, ...]:
        stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in members]
        results = jax.vmap(step.__wrapped__)(*stacked)
        return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], results) for i in range(len(members[0])))

    return jax.jit(joined, out_shardings=replicated(mesh), donate_argnums=0)
