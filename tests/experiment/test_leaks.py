import os
from functools import partial

import pytest

from segjax.configs import semantic
from segjax.data.mixture import MixedSource
from segjax.datasets import catalog
from segjax.datasets.sources import FolderSource
from segjax.errors import InputError
from segjax.experiment import leaks
from segjax.experiment.leaks import (
    check_leaks,
    data_digests,
    have_other_images,
    split_facts,
    warn_of_other_images,
)
from segjax.experiment.setup import open_split
from tests.datasets.folder.test_builder import make, staged  # noqa: F401 - a fixture


def config_of(data_dir, **splits):
    config = semantic.get_config("dataset=synthetic")
    config.dataset.name, config.dataset.data_dir = "folder", str(data_dir)
    config.dataset.update({"train": "train", "validation": "test", "test": "test"} | splits)
    return config


def test_a_split_that_leaks_is_refused_unless_told_to(tmp_path, staged, caplog):  # noqa: F811
    leaks = [f"leak {number}" for number in range(5)]
    make(tmp_path, staged, {"train": (0, 1, 2), "test": (3, 4, 5)}, leaks=leaks)
    config = config_of(tmp_path, test="test[:2]", validation="test[2:]")
    with pytest.raises(
        InputError, match=r"leak \(leak 0; leak 1; leak 2; and \d more\): .*config\.dataset\.allow_leaks"
    ):
        check_leaks(config)
    config.dataset.allow_leaks = True
    check_leaks(config)
    assert "leak 0; leak 1" in caplog.text


def test_the_digests_of_the_data_change_with_any_bit_of_their_files(tmp_path, staged):  # noqa: F811
    make(tmp_path, staged, {"train": (0, 1, 2), "test": (3, 4, 5)})
    config = config_of(tmp_path)
    sources = {split: open_split(config, split) for split in ("train", "validation")}
    before = data_digests(sources)
    assert list(before) == ["split_sha256", "train_files_sha256", "validation_files_sha256"]
    assert data_digests({"train": MixedSource([sources["train"]])}) == {
        "train_files_sha256": before["train_files_sha256"]
    }
    (shard,) = sources["train"].files
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    after = data_digests(sources)
    assert [name for name in before if before[name] != after[name]] == ["train_files_sha256"]


def test_parts_of_one_split_must_not_share_a_group(tmp_path, staged):  # noqa: F811
    first, rest = "train[:1]", "train[1:]"
    # Two images of each group, and one.
    make(tmp_path / "two", staged, {"train": range(4), "test": (4, 5)})
    assert sorted(open_split(config_of(tmp_path / "two"), "train").groups()) == ["g0", "g0", "g1", "g1"]
    with pytest.raises(InputError, match=r"train and validation both have images of g[01]\)"):
        check_leaks(config_of(tmp_path / "two", train=first, validation=rest))
    with pytest.raises(InputError, match="train and validation both have images of g0, g1"):
        check_leaks(config_of(tmp_path / "two", validation="train"))
    make(tmp_path / "one", staged, {"train": (0, 2), "test": (4, 5)})
    apart = config_of(tmp_path / "one", train=first, validation=rest)
    assert [open_split(apart, split).groups() for split in ("train", "validation")] in (
        [["g0"], ["g1"]],
        [["g1"], ["g0"]],
    )
    check_leaks(apart)


def test_splits_of_different_data_sets_must_not_share_a_group(tmp_path, staged, monkeypatch):  # noqa: F811
    # g0 is in the training split of one and in the test split of the other; official splits share g1 and g2.
    make(tmp_path / "one", staged, {"train": (0, 1), "validation": (2,), "test": (3,)})
    make(tmp_path / "other", staged, {"train": (4,), "validation": (5,), "test": (0,)})
    for name in ("one", "other"):
        opened = partial(lambda split, *, data_dir, folder: FolderSource(split, data_dir=folder))
        monkeypatch.setitem(catalog.DATASETS, name, partial(opened, folder=tmp_path / name))
    config = config_of(tmp_path, validation="validation")
    for name in ("one", "other"):
        config.dataset.name = name
        check_leaks(config)
    for name in ("one+other", "other+one"):
        config.dataset.name = name
        with pytest.raises(InputError, match=r"leak \(train and test both have images of g0\)"):
            check_leaks(config)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("", "ab", False),
        ("ab", "", False),
        ("ab", "ab", False),
        ("ab", "Ab", False),
        ("ab", "aB", False),
        ("ab", "AB", True),
        ("a ", "AB", True),
        (" b", "ab", False),
        (" b", " B", True),
        ("a ", " b", False),
    ],
)
def test_other_images_have_no_digest_in_common(first, second, expected):
    names = ("split_sha256", "train_files_sha256")
    first, second = (
        {name: letter for name, letter in zip(names, letters, strict=False) if letter != " "}
        for letters in (first, second)
    )
    first["validation_files_sha256"] = "c"
    assert have_other_images(first, second) == expected


def test_training_images_that_cannot_be_read_are_a_warning(tmp_path, staged, monkeypatch, caplog):  # noqa: F811
    make(tmp_path / "data", staged, {"train": range(4), "test": (4, 5)})
    config = config_of(tmp_path / "data")
    stored = {"split_sha256": "other", "train_files_sha256": "other"}
    monkeypatch.setattr(leaks, "stored_digests", lambda workdir: stored)

    def warning():
        caplog.clear()
        (text,) = warn_of_other_images(tmp_path / "run", config)
        assert text in caplog.text
        return text

    assert "was trained on other images than the training split of folder" in warning()
    (shard,) = open_split(config, "train").files
    shard.unlink()
    unknown = "It is unknown whether images of this evaluation are among those that"
    assert unknown in warning()
    assert shard.name in warning()
    config.dataset.data_dir = str(tmp_path / "absent")
    assert unknown in warning()
    assert "holds no prepared folder" in warning()


def test_the_training_files_of_several_runs_are_read_once(tmp_path, staged, monkeypatch):  # noqa: F811
    make(tmp_path / "data", staged, {"train": range(4), "test": (4, 5)})
    # A mixture has no digest of its split.
    config = config_of(tmp_path / "data")
    config.dataset.classes = ("background", "nucleus")
    stored, read = data_digests({"train": open_split(config, "train")}), []
    assert list(stored) == ["train_files_sha256"]
    monkeypatch.setattr(leaks, "stored_digests", lambda workdir: stored)
    digest = leaks.file_digest
    monkeypatch.setattr(leaks, "file_digest", lambda path: [read.append(path), digest(path)][1])
    for run in ("a", "b", "c"):
        assert warn_of_other_images(tmp_path / run, config) == []
    (shard,) = open_split(config_of(tmp_path / "data"), "train").files
    assert read == [shard]
    os.utime(shard, (1, 1))
    assert warn_of_other_images(tmp_path / "a", config) == []
    assert read == [shard, shard]


def test_few_training_images_are_checked_and_digested_as_all_of_them(tmp_path, staged):  # noqa: F811
    make(tmp_path, staged, {"train": range(4), "test": (4, 5)})
    config = config_of(tmp_path)
    splits = {split: open_split(config, split) for split in ("train", "validation")}
    config.dataset.train_images = 1
    few = open_split(config, "train")
    assert (len(few), len(few.groups())) == (1, 1)
    assert len(open_split(config, "validation")) == 2
    assert data_digests(splits | {"train": few}) == data_digests(splits)
    config.dataset.validation = "train"
    with pytest.raises(InputError, match="train and validation both have images of g0, g1"):
        check_leaks(config)


def test_a_clean_split_and_made_up_data_pass(tmp_path, staged):  # noqa: F811
    make(tmp_path, staged, {"train": range(2), "validation": (2, 3), "test": (4, 5)})
    config = config_of(tmp_path, validation="validation")
    check_leaks(config)
    digest = open_split(config, "train").split_sha256
    assert split_facts(open_split(config, "test")) == {"split_sha256": digest}
    made_up = semantic.get_config("dataset=synthetic")
    check_leaks(made_up)
    assert split_facts(open_split(made_up, "train")) == {}
