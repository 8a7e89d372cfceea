"""Errors of the number of instances, and intervals for it that are fitted on other images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class CountScores:
    """Errors of the number of instances of an image; NaN without images.

    Attributes:
      mean_absolute_error: mean of |predicted - true|.
      bias: mean of predicted - true.
      relative_error: sum of |predicted - true| / sum of true.
    """

    mean_absolute_error: float
    bias: float
    relative_error: float


def count_scores(true: Sequence[int], predicted: Sequence[int]) -> CountScores:
    """Returns the errors of the numbers of instances of images.

    >>> count_scores([10, 0, 5], [8, 1, 5])
    CountScores(mean_absolute_error=1.0, bias=-0.3333333333333333, relative_error=0.2)
    """
    images, total = len(true), sum(true)
    error = sum(abs(there - said) for there, said in zip(true, predicted, strict=True))
    return CountScores(
        error / images if images else math.nan,
        (sum(predicted) - total) / images if images else math.nan,
        error / total if total else math.nan,
    )


@dataclasses.dataclass(frozen=True)
class CountInterval:
    """A conformal interval for the true number of instances of an image.

    If the images on which it was fitted and a new one are exchangeable, it contains the true number of the
    new one with a probability of at least `level`. Validation images that also chose the checkpoint or the
    settings of the decoder are not: their errors may be smaller, so that `level` holds approximately. The
    width grows with the square root of the predicted number, as that of a Poisson interval does.

    Attributes:
      level: the probability.
      width: the quantile of |true - predicted| / sqrt(predicted + 1); infinite if there were too few images.

    References:
      Lei et al., https://doi.org/10.1080/01621459.2017.1307116
    """

    level: float
    width: float

    @classmethod
    def fit(cls, true: Sequence[int], predicted: Sequence[int], level: float = 0.9) -> CountInterval:
        """Fits the width to the numbers of instances of validation images.

        >>> CountInterval.fit([3] * 9, [3] * 8 + [8]).width
        1.6666666666666667
        """
        counts = np.array([true, predicted], float)
        residuals = np.sort(np.abs(counts[0] - counts[1]) / np.sqrt(counts[1] + 1))
        rank = math.ceil((len(residuals) + 1) * level - 1e-9)
        return cls(level, float(residuals[rank - 1]) if rank <= len(residuals) else math.inf)

    def of(self, predicted: int) -> tuple[float, float]:
        """Returns the lowest and the highest number of instances of an image; numbers are at least 0.

        >>> CountInterval(0.9, 0.5).of(8), CountInterval(0.9, 2.0).of(0)
        ((6.5, 9.5), (0.0, 2.0))
        """
        half = self.width * math.sqrt(predicted + 1)
        return max(0.0, predicted - half), predicted + half

    def coverage(self, true: Sequence[int], predicted: Sequence[int]) -> float:
        """Returns the fraction of images whose true number is in the interval; NaN without images."""
        intervals = [self.of(count) for count in predicted]
        inside = [low <= count <= high for count, (low, high) in zip(true, intervals, strict=True)]
        return sum(inside) / len(inside) if inside else math.nan
