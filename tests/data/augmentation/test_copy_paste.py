import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

from segjax.data.augmentation.copy_paste import copy_paste
from segjax.ops import boxes
from segjax.typing import IGNORE

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEYS = jax.random.split(jax.random.key(0), 48)
SIZE = 48
NAMES = ("image", "labels", "semantic", "distance")


def example(*, classes=None):
    """An L with id 3; of class 2 a bar with id 5 at the border, and one with id 4 where the image ends."""
    labels = np.zeros((SIZE, SIZE), np.int32)
    labels[8:20, 10:14], labels[16:20, 10:20] = 3, 3
    labels[40:, 30:36] = 5
    labels[2:8, 30:44] = 4
    semantic = np.select([labels == 3, labels > 3], [1, 2]).astype(np.int32)
    semantic[:, 44:] = IGNORE  # beyond the image
    rng = np.random.default_rng(0)
    return {
        "image": rng.uniform(0, 0.1, (SIZE, SIZE, 2)).astype(np.float32) + (labels > 0)[..., None],
        "labels": labels,
        "semantic": semantic,
        "distance": np.where(labels > 0, rng.uniform(0.2, 1, labels.shape), 0).astype(np.float32),
    } | ({} if classes is None else {"classes": np.array(classes, np.int32)})


@functools.partial(jax.jit, static_argnums=0)
def variants(count, one, overlap):
    return jax.vmap(lambda key: copy_paste(key, one, count=count, overlap=overlap))(KEYS)


def every(one, count=2, overlap=0.0):
    return jax.tree.map(np.asarray, variants(count, one, overlap))


@pytest.fixture(scope="module")
def pasted():
    return every(example())


def poses(array):
    for mirrored in (array, array[:, ::-1]):
        yield from (np.rot90(mirrored, turns) for turns in range(4))


def test_copies_have_new_ids_and_all_that_was_there_stays(pasted):
    before, copies = example(), 0
    for index, labels in enumerate(pasted["labels"]):
        ids = set(np.unique(labels)) - {0}
        assert {3, 4, 5} <= ids <= {3, 4, 5, 6, 7}
        copies += len(ids) - 3
        old = before["labels"] > 0
        np.testing.assert_array_equal(labels[old], before["labels"][old])
        for name in ("semantic", "distance"):
            np.testing.assert_array_equal(pasted[name][index][old], before[name][old])
            empty = (labels == 0) & (before["semantic"] != IGNORE)
            assert not pasted[name][index][empty].any()
    assert copies > len(KEYS) / 6


def test_a_copy_is_the_instance_in_one_of_eight_poses(pasted):
    before = example()
    box = np.s_[8:20, 10:20]
    mask = before["labels"][box] == 3
    whole = 0
    for index, labels in enumerate(pasted["labels"]):
        for new in set(np.unique(labels)) - {0, 3, 4, 5}:
            pixels = np.nonzero(labels == new)
            if len(pixels[0]) < mask.sum():  # cut by the border
                continue
            place = tuple(slice(side.min(), side.max() + 1) for side in pixels)
            matches = [
                np.array_equal(labels[place] == new, shape)
                and np.array_equal(pasted["distance"][index][place][shape], depth[shape])
                and np.allclose(pasted["image"][index][place][shape], picture[shape])
                for shape, depth, picture in zip(
                    poses(mask), poses(before["distance"][box]), poses(before["image"][box]), strict=True
                )
            ]
            assert sum(matches) == 1
            assert (pasted["semantic"][index][labels == new] == 1).all()
            whole += 1
    assert whole > 5


def test_what_the_border_cuts_is_never_copied(pasted):
    new = pasted["labels"] > 5
    assert (pasted["semantic"][new] == 1).all()


def test_only_the_rim_of_a_copy_mixes_with_what_was_there(pasted):
    changed = np.abs(pasted["image"] - example()["image"]).max(axis=-1) > 1e-4
    area, seen = (example()["labels"] == 3).sum(), 0
    for index, labels in enumerate(pasted["labels"]):
        copies = labels > 5
        # Where the border cuts a copy, its rim may be seen and it itself not.
        if not copies.any() or copies.sum() != area * len(set(labels[copies])):
            continue
        assert not changed[index][~around(copies, 4)].any()
        assert changed[index][copies].all()
        outside = (labels == 0) & around(copies, 1)
        assert changed[index][outside].mean() > 0.9
        seen += 1
    assert seen > 3


def around(mask, reach):
    return ndimage.binary_dilation(mask, np.ones((2 * reach + 1, 2 * reach + 1)))


def test_a_crowded_place_gets_no_copy_unless_it_may_cover_others():
    crowded = example()
    crowded["labels"] = np.where(crowded["labels"] == 0, 5, crowded["labels"])
    for name, value in every(crowded, overlap=0.3).items():
        np.testing.assert_array_equal(value, np.tile(crowded[name], (len(KEYS),) + (1,) * crowded[name].ndim))
    covered = every(crowded, overlap=1.0)
    assert (covered["labels"] > 5).any()
    assert (covered["labels"] == 5).any(axis=(1, 2)).all()


def test_ids_of_detectors_are_those_without_a_class():
    one = example(classes=[2, 0, 1, 1, 2, 0])
    examples = every(one)
    for labels, classes, semantic in zip(
        examples["labels"], examples["classes"], examples["semantic"], strict=True
    ):
        new = set(np.unique(labels)) - {0, 3, 4, 5}
        assert new <= {2, 6}
        assert {index + 1 for index in np.flatnonzero(classes)} == {1, 3, 4, 5} | new
        for index in new:
            assert classes[index - 1] == 1
            assert (semantic[labels == index] == 1).all()
        _, present = boxes.boxes_from_labels(labels, capacity=6)
        assert set(np.flatnonzero(present) + 1) == {3, 4, 5} | new
    assert any((labels == 6).any() for labels in examples["labels"])


def test_a_full_capacity_and_an_empty_image_get_nothing():
    full = example(classes=[1, 1, 1, 1, 2, 1])
    empty = example() | dict.fromkeys(("labels", "semantic"), np.zeros((SIZE, SIZE), np.int32))
    for one in (full, empty):
        for name, value in every(one).items():
            np.testing.assert_array_equal(value[3], one[name])


def test_each_instance_is_as_likely_whatever_its_size():
    labels = np.zeros((SIZE, SIZE), np.int32)
    labels[4:6, 4:6], labels[10:30, 4:24] = 1001, 70_000
    one = example() | {"labels": labels, "semantic": (labels > 1001) + (labels > 0).astype(np.int32)}
    areas = np.concatenate(
        [(every(one, overlap=1.0)["labels"] == new).sum(axis=(1, 2)) for new in (70_001, 70_002)]
    )
    small = (areas > 0) & (areas <= 4)
    assert 0.25 < small.sum() / (areas > 0).sum() < 0.75


def test_copies_have_all_targets_but_no_colour():
    one = example()
    inside = one["labels"] > 0
    rng = np.random.default_rng(1)
    for name in ("poisson", "diffusion"):
        one[name] = np.where(inside, rng.uniform(1, 2, inside.shape), 0).astype(np.float32)
    one["colours"] = np.where(inside, 1 + one["labels"] % 4, 0).astype(np.int32)
    actual = every(one)
    is_copy = actual["labels"] > 5
    assert is_copy.any()
    for name in ("distance", "poisson", "diffusion"):
        # Every value of a copy is one of the original, an instance that no border cuts.
        assert np.isin(actual[name][is_copy], one[name][one["labels"] == 3]).all()
    assert not actual["colours"][is_copy].any()
    before = np.broadcast_to(one["colours"], actual["labels"].shape)
    np.testing.assert_array_equal(actual["colours"][~is_copy], before[~is_copy])
