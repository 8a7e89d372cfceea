import numpy as np

from segjax.data.records import Record
from segjax.data.subset import evenly, groups_of, random_images
from segjax.segmentation import Segmentation


class Numbers:
    """Records of one pixel, whose value is their index; two in a row are of one group."""

    class_names = ("background", "nucleus")

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        truth = Segmentation.from_labels(np.zeros((1, 1), int))
        return Record(f"r{index}", f"g{index // 2}", np.full((1, 1, 1), index, np.uint8), truth)


def indices(source):
    return [int(source[index].image[0, 0, 0]) for index in range(len(source))]


def test_takes_records_from_all_over_a_source():
    assert indices(evenly(Numbers(10), 3)) == [0, 4, 9]
    assert indices(evenly(Numbers(10), 6)) == [0, 1, 3, 5, 7, 9]
    assert len(evenly(Numbers(10), 100)) == 10


def test_random_images_fill_group_after_group_and_smaller_sets_are_part_of_larger_ones():
    source = Numbers(20)
    five, ten = random_images(source, 5, seed=1), random_images(source, 10, seed=1)
    assert len(set(groups_of(five))) == 3
    assert indices(ten)[:5] == indices(five)
    assert indices(random_images(source, 5, seed=2)) != indices(five)
    assert sorted(indices(random_images(source, 100, seed=1))) == list(range(20))


def test_a_subset_has_the_classes_and_leaks_of_its_source():
    source = Numbers(4)
    source.leaks = ("patient 3 is in two splits",)
    assert random_images(source, 2, seed=0).leaks == source.leaks
    assert random_images(source, 2, seed=0).class_names == source.class_names
