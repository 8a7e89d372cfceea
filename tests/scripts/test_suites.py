"""What the benchmark's suites compute, without the clock."""

import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.usefixtures("quick_to_compile")
def test_augmentation_is_timed_beside_a_training_step(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import augmentation

    # A network takes longer to compile than all else, and the suite of networks has a test of its own.
    monkeypatch.setattr(augmentation, "training_step", lambda size, batch: lambda: time.sleep(0.01))
    rows = augmentation.augmentation_rows(32, 2, 1)
    assert [row.policy for row in rows] == ["default", "all 17 operations"]
    for row in rows:
        assert row.images == pytest.approx(2 / row.seconds)
        assert 0 < row.share <= row.seconds / 0.01
