import math

import numpy as np
import pytest

from segjax.metrics.calibration import Calibration, are_probabilities
from tests.oracles.calibration import expected_calibration_error


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_one_prediction_at_a_time(seed):
    rng = np.random.default_rng(seed)
    scores = rng.random(200).astype(np.float32) ** (1 + seed)
    correct = rng.random(200) < scores
    result = Calibration.of(scores, correct)
    assert result.ece == pytest.approx(expected_calibration_error(scores, correct), rel=1e-9)
    scores = rng.random(200)
    expected = Calibration.of(scores, correct)
    for _ in range(10):
        order = rng.permutation(200)
        shuffled = Calibration.of(scores[order], correct[order])
        assert (shuffled.ece, shuffled.score) == (expected.ece, expected.score)


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.0, True), (1.0, True), (1.0000002, True), (95.0, False), (-0.5, False), (math.nan, False)],
)
def test_only_scores_between_0_and_1_are_probabilities(score, expected):
    assert are_probabilities(np.array([0.5, score], np.float32)) == expected
    assert are_probabilities(np.zeros(0, np.float32))


def test_a_curve_by_hand():
    result = Calibration.of(np.array([0.05, 0.75, 0.75, 1.0]), np.array([False, True, False, True]))
    assert result.count == [1, 0, 0, 0, 0, 0, 0, 2, 0, 1]
    assert result.score[7] == 0.75
    assert result.precision[7] == 0.5
    assert math.isnan(result.score[1])
    assert result.ece == pytest.approx((0.05 + 2 * 0.25 + 0) / 4)
    assert math.isnan(Calibration.of(np.zeros(0), np.zeros(0, bool)).ece)
