"""Takes the batches of a run; if one process cannot make its batch, all processes stop at the same step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, TypeVar

import jax

from segjax.errors import InputError
from segjax.train.processes import LONG_LIMIT, all_or_none

T = TypeVar("T")
NO_ERROR = "null"
# Numbers the calls of `exchange_errors`, which all processes call equally often.
_calls = itertools.count()


def until_error(batches: Iterator[tuple[int, T]], first: int) -> Iterator[tuple[int, T | InputError]]:
    """Iterates over `(step, batch)`; ends with `(step, error)` if a process cannot make its batch.

    Args:
      batches: the batches, in the order of their steps.
      first: the first step.

    Raises:
      Interrupted: if another process has crashed.
    """
    for step in itertools.count(first):
        try:
            with all_or_none(f"the batch of step {step + 1}", limit=LONG_LIMIT, swap=exchange_errors):
                item = next(batches, None)
        except InputError as error:
            yield step, error
            return
        if item is None:
            return
        yield item


def exchange_errors(text: str, purpose: str, *, limit: float | None = None) -> list[str]:
    """Exchanges as `segjax.train.processes.exchange`, while the devices compute, which do not take part.

    Args:
      text: text of this process; it is sent only if it is not `NO_ERROR`, as nearly every time.
      purpose: what the processes agree on; not used, as they wait for each other in every step anyway.
      limit: seconds to wait for the others; `LONG_LIMIT` if None.
    """
    del purpose
    if jax.process_count() == 1:
        return [text]
    # The service by which processes are connected has no public interface.
    from jax._src import distributed

    client: Any = distributed.global_state.client
    folder = f"segjax/errors/{next(_calls)}/"
    names = [f"{folder}{index}" for index in range(jax.process_count())]
    if text != NO_ERROR:
        client.key_value_set(names[jax.process_index()], text)
    # A name of its own for each call would cost the first process a kilobyte each time.
    client.wait_at_barrier("segjax/errors", int(1000 * (limit or LONG_LIMIT)))
    sent = dict(client.key_value_dir_get(folder))
    return [sent.get(name, NO_ERROR) for name in names]
