import numpy as np
import pytest
from tensorflow_datasets.core import shuffle

from segjax.data.shuffling import FileShuffler, shuffled_in_a_file


def added(maker, folder, keys, **options):
    made = maker(folder, "train", **options)
    for key in keys:
        made.add(key, f"{key}".encode() * 3)
    return made


@pytest.mark.parametrize("disable_shuffling", [False, True])
def test_the_order_is_that_of_tfds(tmp_path, disable_shuffling):
    keys = [int(key) for key in np.random.default_rng(0).permutation(100)]
    ours, theirs = (
        added(maker, tmp_path, keys, disable_shuffling=disable_shuffling)
        for maker in (FileShuffler, shuffle.Shuffler)
    )
    assert (ours.size, ours.num_examples, list(ours.bucket_lengths)) == (theirs.size, 100, [100])
    assert list(ours) == list(theirs)
    assert list(ours) == list(theirs), "a second time as the first"


def test_two_examples_of_one_key_are_an_error_or_the_first_of_them(tmp_path):
    with pytest.raises(shuffle.DuplicatedKeysError):
        added(FileShuffler, tmp_path, ["a", "b", "a"])
    kept = added(FileShuffler, tmp_path, ["a", "b", "a"], ignore_duplicates=True)
    assert sorted(data for _, data in kept) == [b"aaa", b"bbb"]


def test_tfds_shuffles_by_it_only_while_a_data_set_is_written():
    before = shuffle.Shuffler
    with shuffled_in_a_file():
        assert shuffle.Shuffler is FileShuffler
    assert shuffle.Shuffler is before
    with pytest.raises(ZeroDivisionError), shuffled_in_a_file():
        _ = 1 / 0
    assert shuffle.Shuffler is before


def test_nothing_is_left_in_the_folder(tmp_path):
    list(added(FileShuffler, tmp_path, ["a", "b"]))
    assert list(tmp_path.iterdir()) == []
