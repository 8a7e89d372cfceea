"""How certain a score is, and its difference from a baseline: bootstrap over groups, and a paired test."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

RESAMPLES = 2000
# Digits of differences: equal scores of several seeds have means that differ by rounding.
DIGITS = 12
# Standard errors of the smallest difference that a two-sided test at 5 % sees with a power of 80 %.
DETECTABLE = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
# Smaller differences are displayed as 0.
SMALLEST = 0.0005


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of a score from that of the baseline, on the same images.

    Attributes:
      value: score minus score of the baseline.
      interval: its bootstrap interval of 95 %, None with a single group.
      p_value: of the Wilcoxon signed-rank test on the groups, None if it is undefined.
      detectable: smallest true difference that such a comparison detects with a probability of 80 %.
    """

    value: float
    interval: tuple[float, float] | None
    p_value: float | None
    detectable: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    @property
    def is_better(self) -> bool:
        """See `is_better`."""
        return is_better(self.value, self.interval)


def is_better(difference: float, interval: tuple[float, float] | None) -> bool:
    """Returns whether a score is better than the baseline: as displayed, and the interval excludes 0."""
    return interval is not None and interval[0] > 0 and difference >= SMALLEST


def by_group(ratios: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Adds up numerators and denominators of the images of each group.

    Args:
      ratios: [S, I, 2] of seeds and images.
      groups: group of each image.

    Returns:
      [S, G, 2], in the order of the sorted groups.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), len(ratios), 2))
    np.add.at(sums, index, ratios.swapaxes(0, 1))
    return sums.swapaxes(0, 1)


def pooled(counts: np.ndarray) -> np.ndarray:
    """Returns the score of pooled groups [...] from counts [..., G, 2]; NaN where the denominator is 0."""
    return _ratio(counts.sum(axis=-2))


def interval(
    counts: np.ndarray, baseline: np.ndarray | None = None
) -> tuple[tuple[float, float], float] | None:
    """Returns the bootstrap interval of 95 % and the standard error of a score, or of a difference.

    The groups are drawn, the same for every method; the seeds are averaged. The random numbers are always the
    same.

    Args:
      counts: [S, G, 2].
      baseline: [S', G, 2] of the same groups; None for the score itself.

    Returns:
      None if there is a single group, or the score is undefined.
    """
    groups = counts.shape[1]
    if groups < 2:
        return None
    draws = _draws(groups)
    values = _ratio(draws @ counts).mean(axis=0)
    if baseline is not None:
        values = _rounded(values - _ratio(draws @ baseline).mean(axis=0))
    values = values[np.isfinite(values)]  # a draw may miss the only groups with instances
    if not len(values):
        return None
    low, high = np.quantile(values, (0.025, 0.975))
    return (float(low), float(high)), float(values.std())


@functools.lru_cache(maxsize=1)  # a table asks for the same draws for every score of every row
def _draws(groups: int) -> np.ndarray:
    """Returns how often each group is drawn, [RESAMPLES, G] unsigned."""
    draws = np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
    draws = draws.astype(np.min_scalar_type(groups))
    draws.setflags(write=False)
    return draws


def _ratio(counts: np.ndarray) -> np.ndarray:
    numerator, denominator = counts[..., 0], counts[..., 1]
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _rounded(differences: np.ndarray) -> np.ndarray:
    """Returns differences of means without the noise of their rounding."""
    return np.round(differences, DIGITS) + 0.0  # -0.0 becomes 0


def compare(counts: np.ndarray, baseline: np.ndarray) -> Difference:
    """Compares a score with that of the baseline.

    Args:
      counts: [S, G, 2].
      baseline: [S', G, 2] of the same groups.
    """
    differences = _rounded(_ratio(counts).mean(axis=0) - _ratio(baseline).mean(axis=0))
    differences = differences[np.isfinite(differences)]
    p_value = None
    if len(differences) > 1:
        p_value = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    bounds = interval(counts, baseline)
    return Difference(
        float(_rounded(pooled(counts).mean() - pooled(baseline).mean())),
        None if bounds is None else bounds[0],
        p_value,
        None if bounds is None else DETECTABLE * bounds[1],
    )


def ranks(values: Sequence[float]) -> list[int | None]:
    """Returns the rank of each score, 1 for the highest; equal ones have the same rank, NaN has none.

    >>> ranks([0.5, 0.7, math.nan, 0.7])
    [3, 1, None, 1]
    """
    order = stats.rankdata([-value for value in values], method="min", nan_policy="omit")
    return [None if math.isnan(rank) else int(rank) for rank in order]
