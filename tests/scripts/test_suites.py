"""What the benchmark's suites compute, without the clock."""

import time
from pathlib import Path

import numpy as np
import pytest

from segjax.data.augmentation.policy import OPERATIONS
from segjax.data.records import Record
from segjax.representations import REPRESENTATIONS
from segjax.segmentation import Segmentation
from tests.representations.scenes import touching

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.usefixtures("quick_to_compile")
def test_augmentation_is_timed_beside_a_training_step(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import augmentation

    # A network takes longer to compile than all else, and the suite of networks has a test of its own.
    monkeypatch.setattr(augmentation, "training_step", lambda size, batch: lambda: time.sleep(0.01))
    rows = augmentation.augmentation_rows(32, 2, 1)
    assert [row.policy for row in rows] == ["default", f"all {len(OPERATIONS)} operations"]
    for row in rows:
        assert row.images == pytest.approx(2 / row.seconds)
        assert 0 < row.share <= row.seconds / 0.01


@pytest.fixture
def oracle(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import oracle

    return oracle


def record(labels):
    return Record("cells", "g", np.zeros((*labels.shape, 1), np.uint8), Segmentation.from_labels(labels))


@pytest.mark.usefixtures("quick_to_compile")
def test_ceilings_of_maps_without_noise_are_those_of_the_round_trip(oracle):
    empty = np.zeros_like(touching())
    for name in ("flows", "colours"):
        found = oracle.ceilings(REPRESENTATIONS[name], [record(touching()), record(empty)], 2)
        assert list(found) == ["ideal", "noise 0.3", "noise 0.6", "stride 2", "stride 4"]
        assert found["ideal"] == (1, 1, 1)
        assert 1 > found["stride 2"].pq > found["stride 4"].pq > 0.5
    # Four components of eight cells: one is a cell, two are just over half a cell, one is none.
    found = oracle.ceilings(REPRESENTATIONS["components"], [record(touching())], 1)
    assert found["ideal"].ap50 == pytest.approx(3 / 9)


def test_small_instances_count_as_the_config_says(oracle):
    found = oracle.ceilings(REPRESENTATIONS["colours"], [record(touching())], 1, min_area=110)
    assert found["ideal"].ap50 == pytest.approx(7 / 8)  # the smallest has about 100 pixels


def test_noise_has_the_strength_that_it_says(oracle):
    inside = np.zeros((200, 200), bool)
    inside[:, :100] = True
    values = np.random.default_rng(0).normal(size=(200, 200, 2)).astype(np.float32)
    _, plain = oracle.noisy(inside, values, np.random.default_rng(1), strength=0.0)
    same, noisy = oracle.noisy(inside, values, np.random.default_rng(1))
    np.testing.assert_array_equal(same, inside)
    np.testing.assert_allclose((noisy - plain).std((0, 1)), 0.3 * values[inside].std(0), rtol=1e-4)
    assert 0 < plain.std() < 0.5 * values.std()


def test_coarse_maps_are_means_of_squares_between_their_centres(oracle):
    inside = np.zeros((5, 8), bool)
    inside[:, 4:] = True
    ramp = np.arange(8, dtype=np.float32)[None, :, None].repeat(5, 0)
    foreground, values = oracle.coarse(inside, ramp, np.random.default_rng(0), stride=2)
    assert values.shape == ramp.shape
    np.testing.assert_allclose(values[:, 1:-1], ramp[:, 1:-1], atol=1e-5)  # linear, so only the ends differ
    np.testing.assert_array_equal(foreground, inside)
