import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.datasets.sources import PreparedSource
from segjax.datasets.store import builder as builder_module
from segjax.datasets.store.builder import prepare
from segjax.errors import InputError
from tests.data import tiny

PREPARE = (
    "import sys; from segjax.datasets.sources import PreparedSource; from tests.data.tiny import Fragile;"
    "print(sorted(r.name for r in PreparedSource(Fragile, 'train', data_dir=sys.argv[1])))"
)


def start(data_dir, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(data_dir)],
        cwd=Path(__file__).parents[3],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_killed_preparation_is_repaired_by_processes_that_start_at_once(tmp_path):
    killed = start(tmp_path, KILL="1")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    left = list((tmp_path / "fragile").iterdir())
    assert len(left) == 1
    assert left[0].name.startswith("incomplete.")
    both = [start(tmp_path), start(tmp_path)]
    for process in both:
        output, _ = process.communicate()
        assert process.returncode == 0
        assert output.splitlines()[-1] == "['cell0', 'cell1', 'cell2', 'cell3', 'cell4']"
    assert [path.name for path in (tmp_path / "fragile").iterdir()] == ["1.0.0"]


def test_what_is_prepared_is_not_prepared_again(tmp_path, monkeypatch):
    prepare(tiny.Fragile, tmp_path)
    monkeypatch.setattr(tiny.Fragile, "records", None)
    assert len(PreparedSource(tiny.Fragile, "train", data_dir=tmp_path)) == 5


def test_the_download_of_another_data_set_is_left_alone(tmp_path):
    running = tmp_path / "downloads" / ".pip-other.whl-running" / "other.whl"
    running.parent.mkdir(parents=True)
    running.touch()
    prepare(tiny.Fragile, tmp_path)
    assert running.exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"fragile cannot be prepared in .*/file .*choose a folder that you may write to"
    ):
        prepare(tiny.Fragile, tmp_path / "file")


def test_damaged_data_say_what_to_delete(tmp_path):
    home = Path(prepare(tiny.Fragile, tmp_path).data_dir)
    (shard,) = home.glob("*array_record*")
    content = shard.read_bytes()
    message = r"prepared data in .*fragile/1\.0\.0 are damaged .*; delete that folder and run again"
    for broken in (None, content[: len(content) // 2], b""):
        shard.unlink(missing_ok=True)
        if broken is not None:
            shard.write_bytes(broken)
        with pytest.raises(InputError, match=message):
            list(PreparedSource(tiny.Fragile, "train", data_dir=tmp_path))
    (home / "dataset_info.json").unlink()
    with pytest.raises(InputError, match=message):
        PreparedSource(tiny.Fragile, "train", data_dir=tmp_path)


def test_data_that_appear_while_a_builder_is_made_are_read(tmp_path, monkeypatch):
    """Another process may finish between the search for the data and the check of the folder."""
    prepare(tiny.Fragile, tmp_path / "data")
    make, made = builder_module._make, []

    def made_before(builder_class, data_dir, options):
        builder = make(builder_class, data_dir, options)
        if not made:
            builder.info._splits = make(builder_class, tmp_path / "empty", options).info._splits
        made.append(builder)
        return builder

    monkeypatch.setattr(builder_module, "_make", made_before)
    assert prepare(tiny.Fragile, tmp_path / "data").info.splits["train"].num_examples == 5
