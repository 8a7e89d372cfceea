"""In whose sense instance scores are computed: the choices that published tools make in silence."""

from __future__ import annotations

import dataclasses
import math

from segjax.errors import choose
from segjax.settings import Settings

# The score of an image, or of a set, without any instance, true or predicted. `nan_without_truth` also gives
# NaN where only instances were predicted, which then cost nothing. Averages leave NaN out.
EMPTY = {"nan": math.nan, "zero": 0.0, "one": 1.0, "nan_without_truth": math.nan}
# All instances as if they were of one image, the mean over images, or the mean over groups of the means over
# their images.
AVERAGES = ("pooled", "image", "group")


@dataclasses.dataclass(frozen=True)
class InstanceOptions(Settings):
    """How matched instances become scores.

    Attributes:
      strict: whether a pair matches if its IoU is above the threshold; else, if it is at least that.
      empty: key of `EMPTY`.
      average: one of `AVERAGES`.

    >>> InstanceOptions(empty="two")
    Traceback (most recent call last):
    segjax.errors.InputError: empty='two' is unknown: choose one of nan, zero, one, nan_without_truth
    """

    strict: bool = False
    empty: str = "nan"
    average: str = "pooled"

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(tuple(EMPTY), "empty", self.empty)
        choose(AVERAGES, "average", self.average)
