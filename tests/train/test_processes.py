import subprocess
import sys

import pytest

from segjax.errors import InputError, Interrupted
from segjax.train import processes
from tests.train.threads import run_processes

WAITS_FOR_EVER = """
import time
from segjax.train import processes
with processes._limited("the checkpoint to resume from", 0.2):
    time.sleep(60)
"""


def test_a_process_that_waits_too_long_for_the_others_says_for_what():
    done = subprocess.run(
        [sys.executable, "-c", WAITS_FOR_EVER], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 75
    assert "after 0 s, not all processes agree on the checkpoint to resume from" in done.stderr


def test_processes_with_another_config_are_named(monkeypatch):
    processes.check_equal("a", "config")
    monkeypatch.setattr(processes, "exchange", lambda text, purpose: [text, text, "other"])
    with pytest.raises(InputError, match=r"process 2 has another config than process 0: .* --nodistributed"):
        processes.check_equal("a", "config")


class OtherError(Exception):
    """Another kind of error that all raise."""


@pytest.mark.parametrize(
    ("kind", "error", "told", "code"),
    [
        (InputError, InputError("the disk is full"), "process 1: the disk is full", None),
        (OtherError, OtherError(), "process 1: OtherError", None),
        (InputError, RuntimeError("no memory"), "process 1 failed in the start: no memory", 1),
        (OtherError, InputError("no image"), "process 1 failed in the start: no image", 1),
    ],
)
def test_the_error_of_one_process_is_raised_in_all(monkeypatch, kind, error, told, code):
    def work():
        with processes.all_or_none("the start", kind):
            if processes.jax.process_index() == 1:
                raise error

    (first, second, third), _ = run_processes(monkeypatch, 3, work)
    assert second is error
    for other in (first, third):
        assert type(other) is (kind if code is None else Interrupted)
        assert str(other) == told
        assert getattr(other, "exit_code", None) == code


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_each_process_computes_a_part_and_all_have_all_results_in_their_order(monkeypatch, count):
    computed = []

    def work():
        def square(index):
            computed.append((processes.jax.process_index(), index))
            return index**2, {"big": 2**70}

        return processes.spread(square, 5, "squares", bar=False)

    results, _ = run_processes(monkeypatch, count, work)
    assert results == [[(index**2, {"big": 2**70}) for index in range(5)]] * count
    assert sorted(computed) == sorted((index % count, index) for index in range(5))


def test_nothing_is_exchanged_for_no_image(monkeypatch):
    results, _ = run_processes(monkeypatch, 2, lambda: processes.spread(len, 0, "nothing", bar=False))
    assert results == [[], []]


@pytest.mark.parametrize("error", [InputError("image 3 is damaged"), MemoryError("image 3 is too large")])
def test_an_image_that_fails_in_one_process_ends_all_with_its_sentence(monkeypatch, error):
    def work():
        def fail(index):
            if index == 3:
                raise error

        processes.spread(fail, 7, "the validation", bar=False)

    (first, second), several = run_processes(monkeypatch, 2, work)
    assert second is error
    assert str(error) in str(first)
    assert str(first).startswith("process 1")
    # Both have asked equally often whether to stop, although one had nothing left to do.
    assert several.calls == [4, 4]


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_signal_stops_all_processes_between_the_same_images(monkeypatch, stop_at):
    done = []

    def work():
        processes.spread(done.append, 7, "the evaluation", bar=False)

    results, several = run_processes(monkeypatch, 2, work, stop_at=stop_at)
    assert [(type(result), result.exit_code) for result in results] == [(Interrupted, 143)] * 2
    assert sorted(done) == list(range(2 * (stop_at - 1)))
    assert several.purposes == []
