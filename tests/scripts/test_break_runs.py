"""The parts of the script that kills runs; the runs themselves take an hour."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import optax
import pytest

from segjax.train.checkpoint import Checkpoints
from segjax.train.state import make_state

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import break_runs

    return break_runs


@pytest.fixture
def contents(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import contents

    return contents


def write(folder, *, seconds=1.0, loss=0.5, score=0.25, pixel=b"\0"):
    """A folder as a training and a prediction leave it."""
    (folder / "report").mkdir(parents=True)
    line = {"step": 1, "train/loss": loss, "images_per_second": seconds}
    (folder / "log.jsonl").write_text(json.dumps(line) + "\n")
    (folder / "report" / "metrics.json").write_text(json.dumps({"f1": score, "info": {"seconds": seconds}}))
    (folder / "report" / "index.html").write_text(
        f"<p>{score}</p>\n<dt>seconds.train</dt><dd>{seconds}</dd>\n"
    )
    (folder / "a_labels.tif").write_bytes(pixel)
    (folder / "training.lock").write_text(str(seconds))
    return folder


def test_times_do_not_count_as_a_difference(contents, tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b", seconds=2.0)
    assert contents.compare(contents.digests_of(first), contents.digests_of(second)) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"loss": 0.75}, ["log.jsonl differs"]),
        ({"score": 0.75}, ["report/index.html differs", "report/metrics.json differs"]),
        ({"pixel": b"\1"}, ["a_labels.tif differs"]),
    ],
)
def test_a_file_that_differs_is_named(contents, tmp_path, change, expected):
    first, second = write(tmp_path / "a"), write(tmp_path / "b", **change)
    assert contents.compare(contents.digests_of(first), contents.digests_of(second)) == expected
    (second / "a_labels.tif").rename(second / "b_labels.tif")
    names = ["a_labels.tif is missing", "b_labels.tif is unexpected"]
    found = contents.compare(contents.digests_of(first), contents.digests_of(second))
    assert [sentence for sentence in found if "labels" in sentence] == names


def test_an_array_of_the_last_checkpoint_that_differs_is_named(contents, tmp_path):
    digests = []
    for name, value, seconds in (("a", 0.0, 1.0), ("b", 1.0, 2.0)):
        params = {"kernel": jnp.full(2, value), "bias": jnp.zeros(1)}
        saved = make_state(params, optax.identity(), keep_ema=False)
        with Checkpoints(tmp_path / name / "checkpoints") as checkpoints:
            checkpoints.save(saved, {"seconds": seconds, "best": None})
        digests.append(contents.digests_of(tmp_path / name))
    assert contents.compare(*digests) == ["state params/kernel differs"]


@pytest.fixture
def interruptible():
    """Processes heed Ctrl-C. What a shell starts in the background ignores it, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_process_is_stopped_by_each_signal_unless_it_ends_before(script, tmp_path):
    expected = {"seconds": 0.01, "startup": 0.0}
    path, sent = tmp_path / "output", set()
    code = "import time\nfor number in range(3000): print(number, flush=True); time.sleep(0.01)"
    for seed in range(12):
        with path.open("ab") as output:
            process = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=output, stderr=output)
        number = script.send_signal(process, path, expected, random.Random(seed))
        assert process.wait(10) in script.STOPPED[number]
        sent.add(number)
    assert sent >= {signal.SIGKILL, signal.SIGTERM}
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    assert script.send_signal(process, path, expected, random.Random(0)) is None


def test_the_table_counts_kills_and_equal_runs(script):
    cycles = [
        script.Cycle("train", 0, 0, ["SIGKILL", "SIGTERM"], []),
        script.Cycle("train", 1, 0, ["SIGKILL"], ["log.jsonl differs"]),
        script.Cycle("predict", 0, 0, [], []),
    ]
    rows = [line.split() for line in script.table(cycles).splitlines()]
    assert rows == [
        ["command", "runs", "kills", "SIGKILL", "SIGTERM", "SIGINT", "equal"],
        ["train", "2", "3", "2", "1", "0", *["1", "of", "2"]],
        ["predict", "1", "0", "0", "0", "0", *["1", "of", "1"]],
        ["all", "3", "3", "2", "1", "0", *["2", "of", "3"]],
    ]


def test_a_large_image_is_predicted(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "arguments", lambda name, out, result: [name])
    monkeypatch.setattr(script.subprocess, "Popen", lambda arguments, **_: arguments)
    commands = {name: script.start(name, tmp_path, tmp_path)[-2:] for name in script.NAMES}
    assert commands == {name: ["predict" if name == "large" else name, name] for name in script.NAMES}
