"""Apache Beam's local runner makes of a folder what our own loop makes. Needs the `beam` extra."""

import numpy as np
import pytest

from segjax.datasets.folder.builder import Folder
from segjax.datasets.sources import FolderSource
from segjax.datasets.store.builder import prepare
from tests.datasets.folder.test_builder import records, staged  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.beam,
    # Beam's own; of no concern to what it computes.
    pytest.mark.filterwarnings("ignore"),
]


def test_beam_writes_what_is_staged(tmp_path, staged):  # noqa: F811
    staging, items = staged
    prepare(
        Folder,
        tmp_path / "out",
        staging=staging,
        splits={"train": items[:4], "test": items[4:]},
        class_names=("background", "nucleus", "bright body", "rod"),
        about={"leaks": []},
        pipeline=True,
    )
    sources = [FolderSource(split, data_dir=tmp_path / "out") for split in ("train", "test")]
    assert [len(source) for source in sources] == [4, 2]
    by_name = {one.name: one for source in sources for one in source}
    for expected in records(6):
        np.testing.assert_array_equal(by_name[expected.name].image, expected.image)
        np.testing.assert_array_equal(by_name[expected.name].truth.labels, expected.truth.labels)
