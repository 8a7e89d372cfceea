import numpy as np

from segjax.classical.naive import MAX_LEVELS, cores, naive
from segjax.classical.settings import Naive
from segjax.segmentation.split_touching import background_distance
from tests.classical.cells import COUNT, FIELD, discs, fluorescence


def cores_of(foreground, min_core=4):
    return cores(background_distance(foreground), foreground, min_core=min_core)


def test_a_part_breaks_at_its_waist():
    pair = discs((40, 60), (20, 20, 10), (20, 37, 10))
    core_labels = cores_of(pair)
    assert core_labels.max() == 2
    assert core_labels[20, 20] != core_labels[20, 37]
    assert core_labels[20, 20] > 0
    assert not core_labels[~pair].any()
    assert not core_labels[20, 28:30].any()


def test_the_hierarchy_goes_on_within_what_broke_off():
    # First the bridge to the right breaks, then the waist of the left pair.
    trio = discs((50, 110), (25, 20, 12), (25, 40, 12), (25, 85, 10))
    trio[24:27, 40:85] = True
    core_labels = cores_of(trio)
    assert core_labels.max() == 3
    assert len({core_labels[25, 20], core_labels[25, 40], core_labels[25, 85]}) == 3


def test_crumbs_do_not_break_a_part():
    disc = discs((40, 40), (20, 20, 10))
    disc[20, 30:36] = True
    disc[19:22, 34:37] = True  # a knob on a stalk, nine pixels
    assert cores_of(disc, min_core=4).max() == 1
    assert cores_of(disc, min_core=1).max() == 2


def test_every_part_has_a_core_however_small():
    foreground = np.zeros((20, 20), bool)
    foreground[2, 2] = foreground[5, 5:9] = foreground[12:15, 12:15] = True
    core_labels = cores_of(foreground)
    assert core_labels.max() == 3
    assert core_labels[2, 2]
    assert not cores_of(np.zeros((3, 3), bool)).any()


def test_thick_parts_take_a_bounded_number_of_levels():
    thick = np.zeros((1, 4000))
    thick[0] = np.minimum(np.arange(4000), np.arange(4000)[::-1])
    thick[0, 1990:2010] = 1000
    core_labels = cores(thick, thick > 0, min_core=4)
    assert core_labels.max() == 2
    assert thick.max() / MAX_LEVELS > 30


def test_surroundings_bring_back_what_the_threshold_missed():
    foreground = discs((160, 160), (80, 80, 30), (20, 140, 8))
    image = fluorescence(foreground).astype(np.float32)
    image[:, 110:] = 200 + (image[:, 110:] - 200) * 0.12
    assert not naive(image, Naive(threshold_fraction=1.0)).foreground[20, 140]
    assert naive(image, Naive(threshold_fraction=0.1, window=61)).foreground[20, 140]


def test_cores_grow_back_to_the_full_foreground():
    stages = naive(fluorescence(FIELD), Naive())
    assert len(stages.seeds) == COUNT
    np.testing.assert_array_equal(stages.segmentation.labels > 0, stages.foreground)
