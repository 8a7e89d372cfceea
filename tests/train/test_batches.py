"""A process that cannot make its batch stops all at the same step."""

import functools
import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax._src import distributed

from segjax.errors import InputError, Interrupted
from segjax.train import batches
from segjax.train.batches import until_error
from tests.train.threads import run_processes


def numbers(error, process, at):
    """Makes numbers in place of batches; one process cannot make one of them."""
    for step in itertools.count(4):
        if (step, jax.process_index()) == (at, process):
            raise error
        yield step, 10 * step


def take(error, process=1, at=6):
    return list(until_error(numbers(error, process, at), 4))


def test_one_process_gets_its_batches_and_its_error():
    error = InputError("image7 is too small")
    assert take(error, process=0) == [(4, 40), (5, 50), (6, error)]
    assert list(until_error(iter([(0, "one"), (1, "two")]), 0)) == [(0, "one"), (1, "two")]
    with pytest.raises(MemoryError):
        take(MemoryError(), process=0)


@pytest.mark.parametrize("at", [4, 6])
def test_an_error_of_one_process_ends_all_at_the_same_step(monkeypatch, at):
    error = InputError("image7 is too small")
    (first, second, third), several = run_processes(monkeypatch, 3, functools.partial(take, error, at=at))
    assert second == [*((step, 10 * step) for step in range(4, at)), (at, error)]
    for other in (first, third):
        assert other[:-1] == second[:-1]
        step, told = other[-1]
        assert (step, type(told), str(told)) == (at, InputError, "process 1: image7 is too small")
    assert several.purposes == [f"the batch of step {step + 1}" for step in range(4, at + 1)]


def test_a_crash_of_one_process_ends_the_others(monkeypatch):
    (first, second), _ = run_processes(monkeypatch, 2, functools.partial(take, MemoryError("no memory")))
    assert isinstance(second, MemoryError)
    assert (type(first), first.exit_code) == (Interrupted, 1)
    assert str(first) == "process 1 failed in the batch of step 7: no memory"


TWO = """
import sys
from segjax.train.launch import Launch
from segjax.train.processes import connected
with connected(Launch(sys.argv[1], 2, int(sys.argv[2]))):
    from segjax.errors import InputError
    from tests.train.test_batches import take
    for step, batch in take(InputError("image7 is too small"), at=60):
        pass
    print(step, batch)
"""


def test_two_processes_tell_each_other_without_their_devices():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "COV_"))}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, address, f"{index}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        said = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    expected = ["60 process 1: image7 is too small\n", "60 image7 is too small\n"]
    assert [out for out, _ in said] == expected, said


def test_what_is_sent_has_a_name_of_its_own_each_time(monkeypatch):
    class Client:
        """The service, of which one process is seen."""

        def __init__(self):
            self.sent, self.waited = {}, []

        def key_value_set(self, name, text):
            assert name not in self.sent
            self.sent[name] = text

        def wait_at_barrier(self, name, milliseconds):
            self.waited.append(name)
            assert milliseconds == 5000

        def key_value_dir_get(self, folder):
            return [(name, text) for name, text in self.sent.items() if name.startswith(folder)]

    client = Client()
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 2)
    monkeypatch.setattr(distributed.global_state, "client", client)
    for text in ("null", "one", "null", "two"):
        assert batches.exchange_errors(text, "a test", limit=5) == ["null", "null", text]
    assert len(client.sent) == 2
    # The first process would remember every other name.
    assert len(set(client.waited)) == 1
