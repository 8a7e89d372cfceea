import numpy as np
import pytest
from tensorflow_datasets.core import shuffle
from tensorflow_datasets.proto import tf_example_pb2

from segjax.datasets.store.shuffling import FileShuffler, shuffled_in_a_file


def example(**fields):
    """A serialized example with a whole number for each field, in the order given."""
    serialized = tf_example_pb2.Example()
    for name, value in fields.items():
        serialized.features.feature[name].int64_list.value.append(value)
    return serialized.SerializeToString()


def added(maker, folder, keys, **options):
    shuffler = maker(folder, "train", **options)
    for key in keys:
        shuffler.add(key, example(a=key))
    return shuffler


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
        added(FileShuffler, tmp_path, [1, 2, 1])
    stored = added(FileShuffler, tmp_path, [1, 2, 1], ignore_duplicates=True)
    assert sorted(data for _, data in stored) == [example(a=1), example(a=2)]


def test_tfds_shuffles_by_it_only_while_a_data_set_is_written():
    before = shuffle.Shuffler
    with shuffled_in_a_file():
        assert shuffle.Shuffler is FileShuffler
    assert shuffle.Shuffler is before
    with pytest.raises(ZeroDivisionError), shuffled_in_a_file():
        _ = 1 / 0
    assert shuffle.Shuffler is before


def test_nothing_is_left_in_the_folder(tmp_path):
    list(added(FileShuffler, tmp_path, [1, 2]))
    assert list(tmp_path.iterdir()) == []


def test_the_same_fields_are_the_same_bytes_in_whatever_order_they_come(tmp_path):
    names = [f"field {index}" for index in range(20)]
    one = {name: index for index, name in enumerate(names)}
    other = dict(reversed(one.items()))
    contents = []
    for fields in (one, other):
        shuffler = FileShuffler(tmp_path, "train")
        shuffler.add(0, example(**fields))
        contents += [data for _, data in shuffler]
    assert contents[0] == contents[1]
    assert tf_example_pb2.Example.FromString(contents[0]) == tf_example_pb2.Example.FromString(example(**one))
