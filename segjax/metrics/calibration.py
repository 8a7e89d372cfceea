"""Whether the scores of predictions are probabilities."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

BINS = 10
# Probabilities of float32 exceed 1 by rounding.
ROUNDING = 1e-5


def are_probabilities(scores: np.ndarray) -> bool:
    """Returns whether all scores lie between 0 and 1, up to rounding.

    >>> are_probabilities(np.array([0.0, 1.0])), are_probabilities(np.array([0.5, 95.0]))
    (True, False)
    """
    return bool(((scores >= -ROUNDING) & (scores <= 1 + ROUNDING)).all())


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A reliability curve: predictions in bins of equal width of their score, from 0 to 1.

    Attributes:
      ece: expected calibration error: mean over the predictions of |mean score - precision| of their bin.
      count: number of predictions in each bin.
      score: their mean score, NaN in an empty bin.
      precision: fraction that match a true instance, NaN in an empty bin.

    References:
      Guo et al., https://proceedings.mlr.press/v70/guo17a.html
    """

    ece: float
    count: list[int]
    score: list[float]
    precision: list[float]

    @classmethod
    def of(cls, scores: np.ndarray, correct: np.ndarray) -> Calibration:
        """Returns the curve of predictions.

        Args:
          scores: [D] float, between 0 and 1.
          correct: [D] bool, whether the prediction matches a true instance.

        >>> Calibration.of(np.array([0.8, 0.9, 0.9]), np.array([True, True, False])).ece
        0.3333333333333333
        """
        # Sorted, so that sums do not depend on the order of the predictions.
        order = np.lexsort((correct, scores))
        scores, correct = scores[order], correct[order]
        bins = np.minimum((scores * BINS).astype(int), BINS - 1)
        count = np.bincount(bins, minlength=BINS)
        sums: Any = (np.bincount(bins, values, minlength=BINS) for values in (scores, correct))
        score, precision = (np.where(count > 0, total / np.maximum(count, 1), np.nan) for total in sums)
        gaps = np.abs(np.where(count > 0, score - precision, 0))
        ece = float(gaps @ count / len(scores)) if len(scores) else math.nan
        return cls(ece, count.tolist(), score.tolist(), precision.tolist())
