import math

import numpy as np
import pytest
from scipy import stats

from segjax.evaluation import statistics
from segjax.evaluation.statistics import DETECTABLE, by_group, compare, interval, pooled, ranks


def counts_of(numerators, denominator=10.0):
    """[1, G, 2] from the numerators of the groups."""
    return np.stack([np.array(numerators, float), np.full(len(numerators), denominator)], axis=-1)[None]


def test_images_of_a_group_are_pooled():
    ratios = np.array([[[1, 2], [3, 4], [5, 6]], [[0, 2], [0, 4], [6, 6]]], float)
    assert by_group(ratios, ["b", "a", "b"]).tolist() == [[[3, 4], [6, 8]], [[0, 4], [6, 8]]]
    assert pooled(ratios).tolist() == [9 / 12, 6 / 12]
    assert math.isnan(pooled(np.zeros((1, 3, 2)))[0])


def test_the_interval_is_that_of_the_drawn_groups():
    """The bootstrap of a mean of equal denominators, computed by hand."""
    values = np.array([2.0, 4.0, 9.0, 5.0, 7.0, 3.0])
    (low, high), error = interval(counts_of(values))
    draws = np.random.default_rng(1).choice(values, (20000, 6)).mean(axis=1) / 10
    assert (low, high) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))), abs=0.02)
    assert error == pytest.approx(values.std() / 10 / math.sqrt(6), rel=0.05)
    assert interval(counts_of(values)) == interval(counts_of(values))
    assert interval(counts_of([3.0])) is None


def test_the_draws_are_made_once_for_all_scores_and_are_those_of_the_seed(monkeypatch):
    made, default_rng = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: made.append(seed) or default_rng(seed))
    counts, baseline = np.random.RandomState(0).rand(2, 3, 301, 2)
    (low, high), error = interval(counts)
    for _ in range(3):
        assert interval(counts) == ((low, high), error)
        interval(counts, baseline)
    assert made == [0]
    draws = default_rng(0).multinomial(301, np.full(301, 1 / 301), size=statistics.RESAMPLES)
    sums = draws @ counts
    values = (sums[..., 0] / sums[..., 1]).mean(axis=0)
    assert (low, high) == tuple(np.quantile(values, (0.025, 0.975)))
    assert error == values.std()
    interval(counts[:, :5])
    assert made == [0, 0]


def test_the_groups_of_both_methods_are_drawn_together():
    """The groups differ much, the methods by 0.1 in every group: a paired interval has no width."""
    low = np.array([1.0, 5.0, 3.0, 8.0, 2.0])
    difference = compare(counts_of(low + 1), counts_of(low))
    assert difference.value == pytest.approx(0.1)
    assert difference.interval == pytest.approx((0.1, 0.1))
    assert difference.is_clear
    assert difference.detectable == pytest.approx(0, abs=1e-12)


def test_a_difference_that_could_be_chance_is_not_clear():
    first, second = [5.0, 6.0, 4.0, 7.0, 5.0, 6.0, 3.0], [6.0, 5.0, 4.0, 6.0, 6.0, 5.0, 4.0]
    difference = compare(counts_of(first), counts_of(second))
    assert not difference.is_clear
    assert difference.p_value == stats.wilcoxon(np.subtract(first, second) / 10).pvalue
    spread = np.subtract(first, second).std() / 10 / math.sqrt(7)
    assert difference.detectable == pytest.approx(DETECTABLE * spread, rel=0.05)
    assert pytest.approx(2.80, abs=0.01) == DETECTABLE


def test_seeds_are_averaged_and_equal_methods_do_not_differ():
    two = np.concatenate([counts_of([4.0, 6.0, 5.0]), counts_of([6.0, 4.0, 5.0])])
    difference = compare(two, counts_of([5.0, 5.0, 5.0]))
    assert (difference.value, difference.p_value) == (0, 1.0)
    assert not difference.is_clear


@pytest.mark.parametrize("seeds", [2, 3, 7])
def test_equal_scores_of_another_number_of_seeds_do_not_differ(seeds):
    """The means of 0.8 over one and over three seeds differ in the last bit."""
    one = counts_of([8.0] * 12)
    difference = compare(np.repeat(one, seeds, axis=0), one)
    assert (difference.value, difference.interval, difference.p_value) == (0, (0, 0), 1.0)
    assert not difference.is_clear


def test_groups_that_are_equal_up_to_rounding_do_not_count_in_the_test():
    one = counts_of([8.0, 7.0, 6.0, 3.0, 9.0, 8.0, 1.0])
    better = one + np.array([1.0, 0.0])
    three = np.concatenate([np.repeat(one, 3, axis=0)[:, :4], np.repeat(better, 3, axis=0)[:, 4:]], axis=1)
    assert compare(three, one).p_value == stats.wilcoxon([0, 0, 0, 0, 0.1, 0.1, 0.1]).pvalue


def test_an_undefined_score_has_no_interval_and_no_test():
    difference = compare(np.zeros((1, 4, 2)), counts_of([1.0, 2.0, 3.0, 4.0]))
    assert math.isnan(difference.value)
    assert (difference.interval, difference.p_value, difference.is_clear) == (None, None, False)


def test_equal_scores_share_a_rank():
    assert ranks([0.5, 0.7, math.nan, 0.7, 0.1]) == [3, 1, None, 1, 4]
    assert ranks([0.2, 0.7, 0.7, 0.7]) == [4, 1, 1, 1]


def test_two_groups_have_an_interval_and_a_test_and_one_has_none():
    difference = compare(counts_of([2.0, 6.0]), counts_of([1.0, 1.0]))
    assert difference.interval == pytest.approx((0.1, 0.5))
    assert difference.p_value == stats.wilcoxon([0.1, 0.5]).pvalue
    alone = compare(counts_of([2.0]), counts_of([1.0]))
    assert (alone.interval, alone.p_value, alone.detectable) == (None, None, None)


def test_the_interval_of_several_seeds_is_that_of_their_mean():
    # The mean of both seeds is 0.5 whatever is drawn.
    mirrored = np.concatenate([counts_of([4.0, 6.0, 5.0]), counts_of([6.0, 4.0, 5.0])])
    assert interval(mirrored)[0] == pytest.approx((0.5, 0.5))
