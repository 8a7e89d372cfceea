import itertools
import time

import jax
import jax.numpy as jnp
import pytest

from segjax.train.profiling import WARM_UP, Observer


def batches(seconds=0.0):
    for number in itertools.count():
        time.sleep(seconds)
        yield number, {}


def test_the_trace_has_the_steps_that_were_asked_for_and_opens_in_tensorboard_and_perfetto(tmp_path):
    double = jax.jit(lambda x: 2 * x)
    with Observer(tmp_path, profile=2) as observer:
        for number, _ in observer.steps(batches(), 0):
            assert (tmp_path / "profile").exists() == (number >= WARM_UP + 2)
            if number == WARM_UP + 3:
                break
            double(jnp.ones(8)).block_until_ready()
    names = [path.name for path in (tmp_path / "profile").rglob("*") if path.is_file()]
    assert any(name.endswith(".xplane.pb") for name in names)
    assert any(name.endswith(".trace.json.gz") for name in names)


def test_a_run_that_ends_within_the_trace_has_it(tmp_path):
    with Observer(tmp_path, profile=100) as observer:
        for number, _ in observer.steps(batches(), 20):
            if number == WARM_UP:
                break
    assert any((tmp_path / "profile").rglob("*.xplane.pb"))


def test_no_trace_without_a_profile(tmp_path):
    with Observer(tmp_path) as observer:
        for number, _ in observer.steps(batches(), 0):
            if number == WARM_UP + 1:
                break
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("waiting", "computing"), [(0.03, 0.01), (0.01, 0.03)])
def test_the_fraction_of_time_that_a_loop_waits_for_data(tmp_path, waiting, computing):
    with Observer(tmp_path) as observer:
        for number, _ in observer.steps(batches(waiting), 0):
            if number == 9:
                assert observer.data_wait() == pytest.approx(waiting / (waiting + computing), abs=0.15)
                assert observer.data_wait() < 0.5  # counted once
                break
            time.sleep(computing)
