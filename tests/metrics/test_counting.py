import math

import numpy as np
import pytest

from segjax.metrics.counting import CountInterval, count_scores


def test_errors_of_the_count_by_hand():
    scores = count_scores([10, 0, 5], [8, 1, 5])
    assert scores.mean_absolute_error == 1
    assert scores.bias == -1 / 3
    assert scores.relative_error == 3 / 15
    assert all(math.isnan(value) for value in vars(count_scores([], [])).values())
    assert math.isnan(count_scores([0], [2]).relative_error)


def test_the_width_is_a_quantile_of_the_residuals():
    # 19 images: the 18th of 19 residuals, as ceil(20 * 0.9) = 18.
    predicted = np.full(19, 24)
    assert CountInterval.fit(predicted + np.arange(19), predicted).width == 17 / 5
    assert CountInterval.fit(predicted - np.arange(19), predicted, level=0.5).width == 9 / 5


def test_too_few_images_give_no_finite_interval():
    assert CountInterval.fit([1] * 8, [1] * 8).of(3) == (0, math.inf)
    assert CountInterval.fit([1] * 9, [1] * 9).of(3) == (3, 3)


def test_covers_new_images_as_often_as_it_says():
    rng = np.random.default_rng(0)
    coverage = []
    for _ in range(200):
        true = rng.poisson(40, 90)
        predicted = rng.binomial(true, 0.9) + rng.poisson(3, 90)
        interval = CountInterval.fit(true[:30], predicted[:30])
        coverage.append(interval.coverage(true[30:], predicted[30:]))
    assert 0.89 < np.mean(coverage) < 0.93
    assert math.isnan(CountInterval(0.9, 1.0).coverage([], []))
    assert CountInterval(0.9, 0.5).coverage([5, 9], [8, 8]) == pytest.approx(1 / 2)


def test_an_interval_includes_its_ends():
    interval = CountInterval(0.9, 1 / 3)
    assert interval.of(8) == (7, 9)
    assert interval.coverage([7, 9, 6, 10], [8] * 4) == 1 / 2
