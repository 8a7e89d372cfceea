import time

import pytest

from segjax.train.watchdog import WARM_UP, Watchdog


@pytest.mark.parametrize(
    ("steps", "is_paused", "is_reported"),
    [(WARM_UP + 1, False, True), (WARM_UP + 1, True, False), (WARM_UP, False, False)],
    ids=["hangs", "validates", "compiles"],
)
def test_the_stacks_of_a_step_that_hangs_are_written_once(tmp_path, caplog, steps, is_paused, is_reported):
    path = tmp_path / "stacks.txt"
    with Watchdog(path, min_seconds=0.2) as watchdog:
        for step in range(steps):
            watchdog.begin(step + 1)
        if is_paused:
            watchdog.pause()
        time.sleep(0.6)
    assert path.exists() == is_reported
    if is_reported:
        assert "test_the_stacks_of_a_step" in path.read_text()
        assert path.read_text().count("the median is") == 1
        assert f"step {steps} takes 0 s so far" in caplog.text


def test_stacks_that_cannot_be_written_go_to_the_terminal(tmp_path, caplog, capfd):
    with Watchdog(tmp_path / "missing" / "stacks.txt", min_seconds=0.2) as watchdog:
        for step in range(WARM_UP + 1):
            watchdog.begin(step + 1)
        time.sleep(0.5)
    assert "each thread does this" in caplog.text
    assert "test_stacks_that_cannot_be_written" in capfd.readouterr().err


def test_the_turns_of_other_trainings_are_no_part_of_a_step(tmp_path):
    path = tmp_path / "stacks.txt"
    with Watchdog(path, min_seconds=0.2) as watchdog:
        for step in range(WARM_UP + 1):
            watchdog.begin(step + 1)
        with watchdog.suspended():
            time.sleep(0.4)
        time.sleep(0.1)
        assert not path.exists()
        time.sleep(0.4)
    assert path.exists()
