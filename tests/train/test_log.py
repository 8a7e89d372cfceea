import json
import math

import pytest
from tensorboardX.proto.event_pb2 import Event

from segjax.train.log import Log, read_log

GOOD = '{"step": 1, "train/loss": 0.5}'
LINES = {
    "cut off": '{"step": 2, "tr',
    "no JSON": "loss 0.5",
    "a list": "[1, 2]",
    "a number": "7",
    "no step": '{"loss": 0.5}',
    "the step is no number": '{"step": "two"}',
    "nested too deeply": "[" * 100_000,
    "not UTF-8": "\udcff\udcfe",
    "empty": "",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_that_is_cut_off_or_of_another_kind_costs_that_line_only(tmp_path, line):
    path = tmp_path / "log.jsonl"
    content = f"{GOOD}\n{line}\n" + GOOD.replace("1", "3") + "\n"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert [entry["step"] for entry in read_log(path)] == [1, 3]
    log = Log(tmp_path, start=3)
    log.write(4, {"loss": 0.1})
    log.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3, 4]


def test_what_is_not_finite_is_null(tmp_path):
    log = Log(tmp_path, start=0)
    log.write(1, {"train": {"loss": math.nan, "norm": math.inf, "error": 0.5}})
    log.close()
    text = (tmp_path / "log.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "step": 1,
        "train/loss": None,
        "train/norm": None,
        "train/error": 0.5,
    }


def test_a_full_disk_costs_the_lines_that_did_not_fit(tmp_path, caplog):
    log = Log(tmp_path, start=0)
    path, aside = tmp_path / "log.jsonl", tmp_path / "aside"
    log.write(1, {"loss": 0.1})
    path.rename(aside)
    path.symlink_to("/dev/full")
    log.write(2, {"loss": 0.2})
    log.write(3, {"loss": 0.3})
    path.unlink()
    aside.write_text(aside.read_text() + '{"step": 3, "lo')  # what fitted on the disk
    aside.rename(path)
    log.write(4, {"loss": 0.4})
    log.close()
    assert [entry["step"] for entry in read_log(path)] == [1, 4]
    assert caplog.text.count("log.jsonl cannot be written") == 1
    assert "No space left" in caplog.text


@pytest.mark.parametrize("name", ["log.jsonl", "tensorboard"])
def test_training_goes_on_without_a_log(tmp_path, caplog, name):
    if name == "tensorboard":
        (tmp_path / name).write_text("")
    else:
        (tmp_path / name).mkdir()
    log = Log(tmp_path, start=0)
    log.write(1, {"loss": 0.1})
    log.close()
    assert caplog.text.count(f"{name} cannot be written") == 1
    other = tmp_path / ({"log.jsonl", "tensorboard"} - {name}).pop()
    assert any(other.iterdir()) if other.is_dir() else read_log(other)


def events(folder):
    (path,) = (folder / "tensorboard").iterdir()
    content, position, read = path.read_bytes(), 0, []
    while position < len(content):
        size = int.from_bytes(content[position : position + 8], "little")
        read.append(Event.FromString(content[position + 12 : position + 12 + size]))
        position += 16 + size
    return read


def test_tensorboard_shows_the_values_from_the_step_on(tmp_path):
    log = Log(tmp_path, start=4)
    log.write(5, {"train": {"loss": 0.5, "norm": math.nan}})
    log.close()
    version, start, loss = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (5, start.session_log.START)
    assert (loss.step, loss.summary.value[0].tag) == (5, "train/loss")
    assert loss.summary.value[0].simple_value == 0.5
