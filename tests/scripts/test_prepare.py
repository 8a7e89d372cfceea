"""Preparing a folder as a user does: killed at any moment, it ends with the same bytes."""

import random
import signal
import time

import pytest

from tests.datasets.formats.written import write_dataset
from tests.experiment.test_prepare_folder import contents, drawn, write_images
from tests.scripts import forked
from tests.scripts.test_scripts import environment  # noqa: F401 - a fixture


@pytest.fixture
def folder(tmp_path):
    annotations = drawn(40)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    (tmp_path / "images" / "plate 0" / "image.00.png").write_bytes(b"broken")
    return tmp_path


def prepare(folder, out, environment):  # noqa: F811
    arguments = [f"--images={folder / 'images'}", f"--masks={folder / 'masks'}", f"--out={out}"]
    arguments += ["--pattern={}/{}", "--nopreview", "--workers=2"]
    return forked.Script("prepare", *arguments, environment=environment, folder=folder)


def staged(out):
    return len(list((out / "staging").glob("*.json"))) if (out / "staging").exists() else 0


def test_killed_at_any_moment_it_ends_with_the_same_bytes(folder, environment):  # noqa: F811
    # The same name, because the report has it as its title.
    whole, killed = folder / "whole" / "cells", folder / "killed" / "cells"
    code, out, err = prepare(folder, whole, environment).finish()
    assert code == 0, err
    assert "39 kept, 1 quarantined of 40 images" in out
    seed = time.time_ns()
    print(f"seed {seed}")  # shown if the test fails
    moments, codes = random.Random(seed), []
    for most in (3, 20, 40):
        process = prepare(folder, killed, environment)
        deadline = time.monotonic() + 120
        while process.is_running() and staged(killed) < most and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        codes.append(process.finish()[0])
    assert -signal.SIGKILL in codes, "each process had ended before it was killed"
    code, _, err = prepare(folder, killed, environment).finish()
    assert code == 0, err
    expected, actual = contents(whole), contents(killed)
    assert actual.keys() == expected.keys()
    assert [name for name in expected if actual[name] != expected[name]] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --images and --masks, or --dataset=NAME"),
        (
            ("--images=a", "--masks=b", "--fractions=a,b"),
            "--fractions=a,b are not numbers such as 0.7,0.15,0.15",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(arguments, message, environment, tmp_path):  # noqa: F811
    code, _, err = forked.run("prepare", "--out=x", *arguments, environment=environment, folder=tmp_path)
    assert code == 2
    assert message in err
