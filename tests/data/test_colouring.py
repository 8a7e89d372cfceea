import numpy as np
import pytest

from segjax.data.colouring import COLOURS, RADIUS, instance_colours, neighbours
from tests.data.test_targets import blocks, grid_of
from tests.oracles import colours as oracle


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_neighbours_and_their_contact_agree_with_all_pairs_of_pixels(seed, radius):
    labels = blocks(seed)
    actual = {(int(a), int(b)): int(n) for a, b, n in zip(*neighbours(labels, radius), strict=True)}
    assert actual == oracle.neighbours(labels, radius)


@pytest.mark.parametrize("seed", range(6))
def test_colours_agree_with_one_instance_at_a_time(seed):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.permutation(20).reshape(4, 5), np.ones((3, 4), int)).astype(np.int32)
    labels[rng.random(labels.shape) < 0.2] = 0
    np.testing.assert_array_equal(instance_colours(labels), oracle.instance_colours(labels, RADIUS, COLOURS))


def test_the_larger_of_two_neighbours_has_the_first_colour_and_so_has_who_is_alone():
    labels = np.zeros((12, 40), np.int32)
    labels[2:8, 2:6], labels[2:8, 6:12] = 1, 2
    labels[2:4, 30:34] = 3
    assert instance_colours(labels)[3, [3, 8, 31]].tolist() == [2, 1, 1]


@pytest.mark.parametrize(("gap", "colours"), [(RADIUS - 1, [1, 2]), (RADIUS, [1, 1])])
def test_neighbours_are_at_most_a_radius_apart(gap, colours):
    labels = np.zeros((5, 20), np.int32)
    labels[1:4, 1:5], labels[1:4, 5 + gap : 8 + gap] = 1, 2
    assert instance_colours(labels)[2, [2, 6 + gap]].tolist() == colours


def test_neighbours_differ_in_a_crowd():
    labels = grid_of(400, side=7)
    colours = instance_colours(labels)
    first, second, _ = neighbours(labels, RADIUS)
    table = np.zeros(labels.max() + 1, int)
    table[labels] = colours
    assert len(first) > 1000
    assert (table[first] != table[second]).all()


def test_a_fifth_neighbour_takes_the_colour_that_it_touches_least():
    labels = np.zeros((4, 9), np.int32)
    labels[:2, 4:6], labels[:2, 6:8], labels[2:, 4:6], labels[2:, 6:8] = 1, 2, 3, 4
    labels[3, 4], labels[0, 8] = 0, 5  # all five are within the radius, 3 with the fewest pixels
    colours = instance_colours(labels)
    assert sorted(colours[[0, 0, 2, 2], [4, 6, 4, 6]].tolist()) == [1, 2, 3, 4]
    assert colours[0, 8] == colours[2, 4]


def test_colours_turn_with_the_image():
    rng = np.random.default_rng(0)
    sizes = rng.permutation(np.arange(3, 9))
    labels = np.zeros((12, 40), np.int32)
    left = 0
    for index, size in enumerate(sizes, start=1):  # areas differ, so that the order is the same
        labels[1 : 1 + size, left : left + 6] = index
        left += 6
    np.testing.assert_array_equal(instance_colours(np.rot90(labels)), np.rot90(instance_colours(labels)))
    np.testing.assert_array_equal(instance_colours(labels[:, ::-1]), instance_colours(labels)[:, ::-1])
