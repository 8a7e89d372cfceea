"""Preparing a folder as a user does: killed at any moment, it ends with the same bytes."""

import random
import time

import pytest

from tests.datasets.formats.written import write_dataset
from tests.experiment.test_prepare_folder import contents, drawn, write_images
from tests.scripts.test_scripts import environment, finish, start  # noqa: F401 - a fixture


@pytest.fixture
def folder(tmp_path):
    annotations = drawn(40)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    (tmp_path / "images" / "plate 0" / "image.00.png").write_bytes(b"broken")
    return tmp_path


def prepare(folder, out, environment):  # noqa: F811
    arguments = [f"--images={folder / 'images'}", f"--masks={folder / 'masks'}", f"--out={out}"]
    return start(
        "prepare", *arguments, "--pattern={}/{}", "--nopreview", "--workers=2", environment=environment
    )


def staged(out):
    return len(list((out / "staging").glob("*.json"))) if (out / "staging").exists() else 0


def test_killed_at_any_moment_it_ends_with_the_same_bytes(folder, environment):  # noqa: F811
    # The same name, because the report has it as its title.
    whole, killed = folder / "whole" / "cells", folder / "killed" / "cells"
    code, out, err = finish(prepare(folder, whole, environment))
    assert code == 0, err
    assert "39 kept, 1 quarantined of 40 images" in out
    moments = random.Random(time.time_ns())
    for most in (3, 20, 40):
        process = prepare(folder, killed, environment)
        deadline = time.monotonic() + 120
        while process.poll() is None and staged(killed) < most and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
    code, _, err = finish(prepare(folder, killed, environment))
    assert code == 0, err
    expected, actual = contents(whole), contents(killed)
    assert actual.keys() == expected.keys()
    assert [name for name in expected if actual[name] != expected[name]] == []


def test_what_is_missing_is_said_in_one_sentence(folder, environment):  # noqa: F811
    code, _, err = finish(start("prepare", "--out=x", environment=environment))
    assert code == 2
    assert "give --images and --masks, or --dataset=NAME" in err
    code, _, err = finish(
        start("prepare", "--out=x", "--images=a", "--masks=b", "--fractions=a,b", environment=environment)
    )
    assert code == 2
    assert "--fractions=a,b are not numbers such as 0.7,0.15,0.15" in err
