import math

import numpy as np
import pytest
from scipy import ndimage

from segjax.metrics.surface import SurfaceOptions, SurfaceStatistics
from segjax.typing import IGNORE
from tests.oracles import surface as oracle

NEAR = SurfaceOptions(tolerance=1.0)


def random_masks(seed):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((2, 20, 24)), (0, 2, 2))
    return smooth > np.quantile(smooth, 0.6)


def rectangle(rows, columns, shape=(12, 12)):
    mask = np.zeros(shape, int)
    mask[slice(*rows), slice(*columns)] = 1
    return mask


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_all_pairs_of_pixels(seed):
    truth, prediction = random_masks(seed)
    options = SurfaceOptions(tolerance=float(seed % 3))
    scores = SurfaceStatistics.of(truth.astype(int), prediction.astype(int), options).compute()
    expected = oracle.scores(truth, prediction, options.tolerance)
    assert (scores.hausdorff_95, scores.surface_dice, scores.boundary_f1) == pytest.approx(
        expected, rel=1e-12
    )


def test_a_case_by_hand():
    # One square is the other moved by three columns: 12 of 12 pixels, of which those of the rows at the top
    # and at the bottom that both have, and the columns beside them, are near.
    truth, prediction = rectangle((4, 8), (2, 6)), rectangle((4, 8), (5, 9))
    counts = SurfaceStatistics.of(truth, prediction, NEAR)
    assert (counts.true, counts.predicted, counts.true_near, counts.predicted_near) == (12, 12, 6, 6)
    scores = counts.compute()
    assert (
        scores.surface_dice
        == scores.boundary_f1
        == scores.boundary_precision
        == scores.boundary_recall
        == 1 / 2
    )
    assert scores.hausdorff_95 == 3


def test_counts_of_images_are_pooled_and_distances_averaged():
    truth = rectangle((4, 8), (2, 6))
    right, moved = (
        SurfaceStatistics.of(truth, prediction, NEAR) for prediction in (truth, rectangle((4, 8), (5, 9)))
    )
    scores = (right + moved).compute()
    assert scores.surface_dice == 3 / 4
    assert scores.hausdorff_95 == 3 / 2
    with pytest.raises(ValueError, match="options"):
        right + SurfaceStatistics(SurfaceOptions())


def test_one_boundary_alone_is_wrong_and_none_has_no_score():
    nothing, square = rectangle((0, 0), (0, 0)), rectangle((4, 8), (2, 6))
    missed = SurfaceStatistics.of(square, nothing).compute()
    assert math.isnan(missed.hausdorff_95)
    assert (missed.one_sided, missed.surface_dice, missed.boundary_f1) == (1, 0, 0)
    spurious = SurfaceStatistics.of(nothing, square).compute()
    for scores in (missed, spurious):
        assert (scores.boundary_precision, scores.boundary_recall) == (0, 0)
    with_another = SurfaceStatistics.of(square, nothing) + SurfaceStatistics.of(square, square)
    assert (with_another.compute().hausdorff_95, with_another.compute().one_sided) == (0, 1)
    assert math.isnan(SurfaceStatistics.of(nothing, nothing).compute().boundary_f1)
    assert math.isnan(SurfaceStatistics.of(nothing, nothing).compute().hausdorff_95)


def test_ignored_pixels_count_nowhere():
    truth, prediction = rectangle((4, 8), (2, 10)), rectangle((4, 8), (2, 6))
    truth[:, 5:] = IGNORE
    scores = SurfaceStatistics.of(truth, prediction, SurfaceOptions(tolerance=0.0)).compute()
    assert (scores.hausdorff_95, scores.boundary_f1) == (0, 1)


def test_the_edge_of_the_image_is_no_boundary():
    assert SurfaceStatistics.of(rectangle((0, 12), (0, 6)), rectangle((0, 12), (0, 5))).true == 12
