"""Assignment, and links of two frames."""

import numpy as np
import pytest
from scipy import ndimage

from segjax.segmentation import Segmentation
from segjax.tracking.assignment import assign
from segjax.tracking.cells import shift_labels
from segjax.tracking.frames import find_common_motion, link_frames
from tests.oracles import tracking as oracle


@pytest.mark.parametrize("seed", range(6))
def test_an_assignment_has_the_largest_sum_of_all(seed):
    rng = np.random.default_rng(seed)
    gains = rng.uniform(-1, 2, rng.integers(1, 5, 2))
    is_possible = rng.random(gains.shape) < 0.7
    rows, columns = np.nonzero(is_possible)
    chosen = assign(rows, columns, gains[is_possible])
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    assert gains[is_possible][chosen].sum() == pytest.approx(
        oracle.best_total(np.where(is_possible, gains, 0)), abs=1e-9
    )


def test_nothing_to_assign():
    nothing = np.zeros(0, int)
    assert assign(nothing, nothing, np.zeros(0)).tolist() == []


def scattered(seed, count=4, side=24):
    """Discs of radius 3 at random positions, as labels 1 to N."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    labels = np.zeros((side, side), int)
    for index in range(count):
        y, x = rng.integers(2, side - 2, 2)
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= 9] = index + 1
    return Segmentation.from_labels(labels).labels


@pytest.mark.parametrize("drift", [(0, 0), (2, -3)])
@pytest.mark.parametrize("seed", range(5))
def test_links_of_two_frames_have_the_largest_gain(seed, drift):
    before, after = scattered(seed), scattered(seed + 100)
    links = link_frames(before, after, max_move=1.5, motion=drift)
    gains = oracle.link_gains(before, after, 1.5, drift)
    assert len(links)
    assert sum(gains[tuple(link)] for link in links) == pytest.approx(
        oracle.best_total(np.maximum(gains, 0)), abs=1e-9
    )


def test_cells_that_swap_ids_are_linked_by_overlap():
    before = np.array([[1, 1, 1, 0, 2, 2, 2]])
    after = np.array([[0, 2, 2, 2, 0, 1, 1]])
    assert link_frames(before, after).tolist() == [[0, 1], [1, 0]]


def test_a_cell_that_is_too_far_away_is_not_linked():
    before, after = np.zeros((2, 9, 60), int)
    before[3:6, 3:6], after[3:6, 7:10] = 1, 1
    # The centroids are 4 px apart, and the diameter is sqrt(4 * 9 / pi) = 3.39 px.
    assert link_frames(before, after, max_move=1.1).tolist() == []
    assert link_frames(before, after, max_move=1.2).tolist() == [[0, 0]]


@pytest.mark.parametrize("shift", [(7, -5), (-8, 0), (0, 6)])
def test_the_drift_of_all_cells_is_recognised(shift):
    labels = scattered(0, count=12, side=80)
    assert find_common_motion(labels, shift_labels(labels, shift)) == shift


def test_cells_that_move_on_their_own_have_no_drift():
    labels = scattered(3, count=20, side=80)
    after = labels.copy()
    after[labels == 1] = 0
    assert find_common_motion(labels, after) == (0, 0)


def test_the_drift_of_large_frames_is_recognised_in_steps():
    labels = np.kron(scattered(0, count=12, side=80), np.ones((8, 8), int))
    assert find_common_motion(labels, shift_labels(labels, (56, -40))) == (56, -40)


@pytest.mark.parametrize("shift", [(7, -5), (-8, 9)])
@pytest.mark.parametrize("growth", [1, 2])
def test_growth_does_not_move_the_centre_of_the_drift(shift, growth):
    small = np.pad(scattered(0, count=12, side=80), 20)  # no cell leaves the frame
    large = ndimage.binary_dilation(small > 0, np.ones((3, 3)), iterations=growth).astype(int)
    assert find_common_motion(small, shift_labels(large, shift)) == shift
    assert find_common_motion(large, shift_labels(small, shift)) == shift


def test_of_drifts_that_are_equally_good_the_shortest_is_taken():
    before, after = np.zeros((2, 40, 40), int)
    before[18:22, 18:22] = 1
    after[18:22, 9:13], after[18:22, 26:30] = 1, 2
    assert find_common_motion(before, after) == (0, 8)
