import zipfile

import numpy as np
import pytest

from segjax.datasets.public import pannuke
from segjax.errors import InputError
from tests.datasets.public import tree

SIDE = 8
SIZES = {1: 2, 2: 1, 3: 3}
SPLITS = {1: "train", 2: "validation", 3: "test"}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(pannuke, "SIDE", SIDE)


def masks():
    """An epithelial nucleus over a neoplastic one of its id, two inflammatory ones, a hidden dead one."""
    channels = np.zeros((SIDE, SIDE, 6))
    channels[0:4, 0:4, 0] = 7
    channels[3:6, 3:6, 4] = 7
    channels[0, 6, 1], channels[0, 7, 1] = 3, 12
    channels[4, 4, 3] = 2
    channels[..., 5] = channels[..., :5].max(-1) == 0
    return channels


LABELS = np.zeros((SIDE, SIDE), np.int32)
LABELS[0:4, 0:4] = 1
LABELS[0, 6], LABELS[0, 7] = 2, 3
LABELS[3:6, 3:6] = 4


def images(fold):
    return np.stack([tree.colours(10 * fold + index, (SIDE, SIDE)) for index in range(SIZES[fold])])


def members(fold, **changes):
    files = {
        f"Fold {fold}/images/fold{fold}/images.npy": tree.npy(images(fold).astype(np.float64)),
        f"Fold {fold}/images/fold{fold}/types.npy": tree.npy(np.array(["Breast"] * SIZES[fold])),
        f"Fold {fold}/masks/fold{fold}/masks.npy": tree.npy(np.stack([masks()] * SIZES[fold])),
    }
    changed = {
        key: changes.get(key.split("/")[-1].removesuffix(".npy"), content) for key, content in files.items()
    }
    return {key: content for key, content in changed.items() if content is not None}


@pytest.mark.parametrize("form", tree.FORMS)
def test_folds_become_splits_and_channels_classes(tmp_path, form):
    for fold in SIZES:
        tree.put(tmp_path, f"pannuke/fold_{fold}.zip", members(fold), form)
    splits = tree.read("pannuke", tmp_path)
    for fold, split in SPLITS.items():
        records = sorted(splits[split], key=lambda record: record.name)
        assert [r.name for r in records] == [f"fold{fold}_{index:04d}" for index in range(SIZES[fold])]
        for record, image in zip(records, images(fold), strict=True):
            assert record.group == f"pannuke/{record.name}"
            assert record.image.dtype == np.uint8
            np.testing.assert_array_equal(record.image, image)
            np.testing.assert_array_equal(record.truth.labels, LABELS)
            assert record.truth.classes.tolist() == [1, 2, 2, 5]


def test_nothing_but_background_is_an_empty_truth():
    nothing = np.zeros((SIDE, SIDE, 6))
    nothing[..., 5] = 1
    assert pannuke.join_channels(nothing).num_instances == 0


def test_what_is_missing_names_the_fold_and_the_licence(tmp_path):
    tree.put(tmp_path, "pannuke/fold_1.zip", members(1))
    with pytest.raises(InputError, match=r"download fold_2\.zip, whose licence is CC BY-NC-SA 4\.0"):
        list(tree.stream("pannuke", tmp_path))


FLOATS = images(1).astype(np.float64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": None}, r"holds no masks\.npy"),
        ({"images": tree.npy(FLOATS[:1])}, "different numbers of images and masks"),
        ({"images": tree.npy(FLOATS * 2)}, "an image outside 0 to 255"),
        ({"images": tree.npy(FLOATS * np.nan)}, "an image outside 0 to 255"),
        ({"masks": tree.npy(-np.stack([masks()] * 2))}, "an id below 0 at 0"),
        ({"masks": tree.npy(np.stack([masks()] * 2)[..., :5])}, r"its shape is \(2, 8, 8, 5\)"),
        ({"masks": tree.npy(np.stack([masks()] * 2))[:-9]}, r"masks\.npy cannot be read"),
    ],
)
def test_a_fold_that_is_not_whole(tmp_path, changes, message):
    tree.put(tmp_path, "pannuke/fold_1.zip", members(1, **changes))
    for fold in (2, 3):
        tree.put(tmp_path, f"pannuke/fold_{fold}.zip", members(fold))
    with pytest.raises(InputError, match=message):
        list(tree.stream("pannuke", tmp_path))


def test_one_image_at_a_time_is_unpacked(tmp_path, monkeypatch):
    for fold in SIZES:
        tree.put(tmp_path, f"pannuke/fold_{fold}.zip", members(fold))
    asked = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda file, n=-1: asked.append(n) or read(file, n))
    next(tree.stream("pannuke", tmp_path))
    assert max(asked) == SIDE * SIDE * 6 * 8
    assert min(asked) >= 0
