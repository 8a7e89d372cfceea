"""Corrections by hand, on labels of a few pixels."""

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.segmentation import Segmentation
from segjax.serving.corrections import delete, draw, merge

LABELS = np.array(
    [
        [1, 1, 0, 2, 2, 2],
        [1, 1, 0, 2, 2, 2],
        [0, 0, 0, 0, 0, 0],
        [3, 3, 3, 0, 4, 0],
    ]
)
BEFORE = Segmentation.from_labels(LABELS, classes=[1, 2, 1, 2], scores=[0.5, 0.25, 0.75, 1])


def check(segmentation, labels, classes, scores):
    np.testing.assert_array_equal(segmentation.labels, labels)
    assert segmentation.classes.tolist() == classes
    assert segmentation.scores.tolist() == scores
    np.testing.assert_array_equal(segmentation.semantic, segmentation.class_map)


def test_deleted_cells_become_background():
    left = np.select([LABELS == 2, LABELS == 4], [1, 2], 0)
    check(delete(BEFORE, [3, 1]), left, [2, 2], [0.25, 1])
    assert delete(BEFORE, [1, 2, 3, 4]).num_instances == 0


def test_merged_cells_have_the_class_of_the_largest():
    merged = np.select([LABELS == 3, LABELS == 4, LABELS > 0], [2, 3, 1], 0)
    check(merge(BEFORE, [2, 1]), merged, [2, 1, 2], [0.25, 0.75, 1])


def test_a_drawn_cell_is_above_others_and_those_without_a_pixel_vanish():
    # The triangle covers (4, 3), (4, 2), (5, 2), ... and cell 4.
    after = draw(BEFORE, [(3, 2), (5, 2), (5, 3), (3, 3)], 1)
    expected = LABELS.copy()
    expected[2:4, 3:6] = 4
    check(after, expected, [1, 2, 1, 1], [0.5, 0.25, 0.75, 1])


def test_an_outline_that_leaves_the_image_is_cut():
    after = draw(BEFORE, [(-5, -5), (0, -5), (0, 0), (-5, 0)], 2)
    expected = LABELS.copy()
    expected[0, 0] = 5
    check(after, expected, [1, 2, 1, 2, 2], [0.5, 0.25, 0.75, 1, 1])


@pytest.mark.parametrize(
    ("correction", "message"),
    [
        (lambda: delete(BEFORE, [5]), "no cell 5 among 4"),
        (lambda: delete(BEFORE, [0]), "no cell 0"),
        (lambda: merge(BEFORE, [2, 2]), "two cells or more"),
        (lambda: merge(BEFORE, [2, 9]), "no cell 9"),
        (lambda: draw(BEFORE, [(1, 1), (2, 2)], 1), "covers no pixel"),
        (lambda: draw(BEFORE, [(50, 50), (60, 50), (60, 60)], 1), "covers no pixel"),
    ],
)
def test_wrong_corrections_are_one_sentence(correction, message):
    with pytest.raises(InputError, match=message):
        correction()
    np.testing.assert_array_equal(BEFORE.labels, LABELS)
