import os

import numpy as np
import pytest

from segjax.datasets.folder.image_files import ImageFile
from segjax.datasets.folder.staging import Staging

EXAMPLE = {
    "name": "a",
    "image": b"\x00\x01\xff",
    "semantic": b"",
    "classes": np.array([1, 2], np.int32),
    "scores": np.zeros(0, np.float32),
}


@pytest.fixture
def item(tmp_path):
    (tmp_path / "a.png").write_bytes(b"one")
    return ImageFile("a", tmp_path / "a.png")


def test_what_is_put_is_found(tmp_path, item):
    staging = Staging(tmp_path / "staging", "x")
    assert staging.find(item) is None
    staging.put(item, {"summary": None}, EXAMPLE)
    assert staging.find(item) == {"summary": None}
    example = staging.example(item)
    assert example["name"] == b"a"
    assert example["image"] == EXAMPLE["image"]
    assert example["semantic"] == b""
    np.testing.assert_array_equal(example["classes"], EXAMPLE["classes"])
    assert example["scores"].dtype == np.float32


def test_other_settings_and_a_changed_file_find_nothing(tmp_path, item):
    Staging(tmp_path / "staging", "x").put(item, {}, None)
    assert Staging(tmp_path / "staging", "y").find(item) is None
    assert Staging(tmp_path / "staging", "x").find(ImageFile("a", item.path, split="test")) is None
    os.utime(item.path, (1, 1))
    assert Staging(tmp_path / "staging", "x").find(item) is None


def test_a_file_that_is_gone_has_an_entry_too(tmp_path):
    staging = Staging(tmp_path / "staging", "x")
    gone = ImageFile("b", tmp_path / "b.png")
    staging.put(gone, {"summary": None}, None)
    assert staging.find(gone) == {"summary": None}
