import subprocess
import sys

import pytest

from segjax.errors import InputError
from segjax.train import processes

WAITS_FOR_EVER = """
import time
from segjax.train import processes
processes.LIMIT = 0.2
with processes._limited("the checkpoint to resume from"):
    time.sleep(60)
"""


def test_a_process_that_waits_too_long_for_the_others_says_for_what():
    done = subprocess.run(
        [sys.executable, "-c", WAITS_FOR_EVER], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 75
    assert "not all processes agree on the checkpoint to resume from" in done.stderr


def test_processes_with_another_config_are_named(monkeypatch):
    processes.check_equal("a", "config")
    monkeypatch.setattr(processes, "exchange", lambda text, purpose: [text, text, "other"])
    with pytest.raises(InputError, match=r"process 2 has another config than process 0: .* --nodistributed"):
        processes.check_equal("a", "config")


def test_the_error_of_another_process_is_raised_here(monkeypatch):
    monkeypatch.setattr(processes, "exchange", lambda text, purpose: [text, "the disk is full"])
    with pytest.raises(InputError, match="process 1: the disk is full"), processes.all_or_none("the start"):
        pass
    with pytest.raises(InputError, match=r"^no image$"), processes.all_or_none("the start"):
        raise InputError("no image")
