import hashlib

import numpy as np
import pytest

from segjax.data.records import Record
from segjax.datasets.folder.builder import Folder, dataset_dir
from segjax.datasets.folder.image_files import ImageFile
from segjax.datasets.folder.staging import Staging
from segjax.datasets.sources import FolderSource
from segjax.datasets.store.builder import prepare
from segjax.datasets.store.codec import encode
from segjax.datasets.synthetic import SyntheticSource
from segjax.errors import InputError


def records(count):
    source = SyntheticSource(f"train[:{count}]", image_size=32)
    examples = [source[index] for index in range(count)]
    return [Record(f"r{i}", f"g{i // 2}", one.image, one.truth, 0.5) for i, one in enumerate(examples)]


@pytest.fixture
def staged(tmp_path):
    """Six records, of three groups, and where they are staged."""
    staging, items = Staging(tmp_path / "staging", ""), []
    for record in records(6):
        items.append(ImageFile(record.name, tmp_path / record.name))
        staging.put(items[-1], {}, encode(record))
    return staging, items


def make(out, staged, splits, leaks=()):
    staging, items = staged
    items_by_split = {split: [items[index] for index in chosen] for split, chosen in splits.items()}
    names = ("background", "nucleus", "bright body", "rod")
    about = {"leaks": list(leaks)}
    return prepare(Folder, out, staging=staging, splits=items_by_split, class_names=names, about=about)


def test_what_is_staged_is_read_back_bit_for_bit(tmp_path, staged):
    make(tmp_path / "out", staged, {"train": (0, 1, 2, 3), "test": (4, 5)})
    train, test = (FolderSource(split, data_dir=tmp_path / "out") for split in ("train", "test"))
    assert train.class_names == ("background", "nucleus", "bright body", "rod")
    by_name = {one.name: one for source in (train, test) for one in source}
    for expected in records(6):
        one = by_name[expected.name]
        assert (one.group, one.pixel_size) == (expected.group, 0.5)
        np.testing.assert_array_equal(one.image, expected.image)
        np.testing.assert_array_equal(one.truth.labels, expected.truth.labels)
        np.testing.assert_array_equal(one.truth.classes, expected.truth.classes)
    assert sorted(train.groups()) == ["g0", "g0", "g1", "g1"]


def test_the_digest_tells_which_image_is_in_which_split(tmp_path, staged):
    make(tmp_path / "a", staged, {"train": (0, 1, 2, 3), "test": (4, 5)})
    make(tmp_path / "b", staged, {"train": (3, 2, 1, 0), "test": (4, 5)})
    make(tmp_path / "c", staged, {"train": (0, 1, 2), "test": (3, 4, 5)})
    a, b, c = (FolderSource("train", data_dir=tmp_path / name).split_sha256 for name in "abc")
    lines = "".join(f"r{i}\t{'train' if i < 4 else 'test'}\n" for i in range(6))
    assert a == b == hashlib.sha256(lines.encode()).hexdigest()
    assert c != a


def test_leaks_are_kept_with_the_data(tmp_path, staged):
    make(tmp_path / "out", staged, {"train": (0, 1, 2), "test": (3, 4, 5)}, leaks=["g1 is torn"])
    assert FolderSource("train", data_dir=tmp_path / "out").leaks == ("g1 is torn",)


def test_a_folder_without_prepared_data_says_what_makes_them(tmp_path):
    with pytest.raises(InputError, match=r"config\.dataset\.data_dir is not set: .*segjax prepare"):
        FolderSource("train")
    with pytest.raises(InputError, match=r"holds no prepared folder .*segjax prepare --images"):
        FolderSource("train", data_dir=tmp_path)
    dataset_dir(tmp_path).mkdir(parents=True)
    with pytest.raises(InputError, match=r"are damaged .*; delete that folder and run again"):
        FolderSource("train", data_dir=tmp_path)
