"""How far the points of a sweep run: by default to their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from segjax.ablation.measure import Advance, advance
from segjax.ablation.points import Point


class Goal(NamedTuple):
    """What is next for a point: its end, unless a field says something else.

    Attributes:
      pause: the step at which its training pauses.
      stop: the step at which it stops for good.
      waits_for: the points whose scores are needed first.
    """

    pause: int | None = None
    stop: int | None = None
    waits_for: Sequence[Point] = ()


class Plan:
    """Takes every point to its end.

    Attributes:
      final: the states of points that are not run.
      advance: trains a point up to a step.
    """

    final: tuple[str, ...] = ("done", "failed")
    advance: Advance = staticmethod(advance)

    def next(self, point: Point) -> Goal:  # noqa: ARG002 - other plans look at it
        """Returns what is next for a point that is in no final state."""
        return Goal()
