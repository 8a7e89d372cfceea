"""Settings of tracking."""

from __future__ import annotations

import dataclasses

from segjax.settings import Fraction, NonNegativeInt, Positive, Settings


@dataclasses.dataclass(frozen=True)
class TrackingConfig(Settings):
    """Which cells of two frames, or of two slices, may be the same.

    Attributes:
      max_move: the largest distance that a cell moves from one frame to the next, in diameters of a typical
        cell, after their common motion is removed. Cells that overlap are linked at any distance.
      max_gap: largest number of frames in which a cell may be missing.
      divisions: whether a cell may divide.
      min_overlap: smallest intersection over union of a cell in two adjacent slices of a stack.
    """

    max_move: Positive = 1.0
    max_gap: NonNegativeInt = 2
    divisions: bool = True
    min_overlap: Fraction = 0.25
