import jax
import numpy as np
import pytest

from segjax.data.augmentation.cutout import cut_out
from segjax.data.targets import TARGETS
from segjax.typing import IGNORE

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEYS = jax.random.split(jax.random.key(0), 16)
SIZE = 40


def example():
    """Two bright halves of cells on a ground of 0.2 and 0.7."""
    labels = np.zeros((SIZE, SIZE), np.int32)
    labels[4:18, 5:35], labels[22:36, 5:35] = 1, 7
    image = np.where(labels[..., None] > 0, [1.0, 0.1], [0.2, 0.7]).astype(np.float32)
    return {
        "image": image,
        "labels": labels,
        "semantic": (labels > 0).astype(np.int32),
        "distance": (labels > 0).astype(np.float32),
        "classes": np.array([1, 0, 2]),
    }


def every(fraction=0.5, count=2, one=None):
    one = example() if one is None else one
    function = jax.jit(jax.vmap(lambda key: cut_out(key, one, fraction=fraction, count=count)))
    return jax.tree.map(np.asarray, function(KEYS))


def test_what_is_gone_is_background_and_not_judged():
    before, after = example(), every()
    gone = after["semantic"] == IGNORE
    assert 0.05 < gone.mean() < 0.4
    np.testing.assert_allclose(after["image"][gone], np.tile([0.2, 0.7], (gone.sum(), 1)), rtol=1e-5)
    assert not after["labels"][gone].any()
    assert not after["distance"][gone].any()
    for name in ("image", "labels", "semantic", "distance"):
        kept = np.broadcast_to(before[name], after[name].shape)
        np.testing.assert_array_equal(after[name][~gone], kept[~gone])
    np.testing.assert_array_equal(after["classes"], np.tile(before["classes"], (len(KEYS), 1)))


def test_one_hole_is_a_rectangle_no_longer_than_its_fraction():
    sides = []
    for hole in every(fraction=0.4, count=1)["semantic"] == IGNORE:
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        assert hole.sum() == len(rows) * len(columns)
        sides += [len(rows), len(columns)]
    assert max(sides) <= 0.4 * SIZE + 1
    assert max(sides) > 0.25 * SIZE
    assert len(set(sides)) > 5


def test_nothing_but_instances_is_filled_with_their_mean():
    full = example() | {"labels": np.ones((SIZE, SIZE), np.int32)}
    after = every(one=full)
    mean = full["image"].mean(axis=(0, 1))
    gone = after["semantic"] == IGNORE
    np.testing.assert_allclose(after["image"][gone], np.tile(mean, (gone.sum(), 1)), rtol=1e-4)


def test_all_targets_are_erased():
    one = example()
    for name, target in TARGETS.items():
        one[name] = target(one["labels"])
    after = every(one=one)
    gone = after["semantic"] == IGNORE
    assert gone.any()
    for name in TARGETS:
        assert after[name].dtype == one[name].dtype
        np.testing.assert_array_equal(after[name], np.where(gone, 0, one[name]))
