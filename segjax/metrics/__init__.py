"""Evaluation metrics; `Scores` combines pixel and instance statistics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from segjax.metrics.instance import InstanceStatistics
from segjax.metrics.pixel import PixelStatistics
from segjax.segmentation import Segmentation

__all__ = ["InstanceStatistics", "PixelStatistics", "Scores"]


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Every statistic of a set of images; adding two pools their images.

    Attributes:
      class_names: K names, background first.
      headline: the class that the top-level instance scores refer to.
      pixel: pixel statistics of all classes.
      per_class: instance statistics of each foreground class, by name.
      regardless: class-agnostic instance statistics.
    """

    class_names: tuple[str, ...]
    headline: str
    pixel: PixelStatistics
    per_class: dict[str, InstanceStatistics]
    regardless: InstanceStatistics

    @classmethod
    def empty(cls, class_names: Sequence[str], *, headline: str | None = None) -> Scores:
        """Returns the scores of zero images.

        Args:
          class_names: K >= 2 unique names, background first.
          headline: a foreground class; the first one if None.

        Raises:
          ValueError: if there is no such class, or names repeat.
        """
        names = tuple(class_names)
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"class_names must be the background and at least one other, not {names}")
        headline = names[1] if headline is None else headline
        if headline not in names[1:]:
            raise ValueError(f"headline class {headline!r} is none of {', '.join(names[1:])}")
        nothing = InstanceStatistics.empty()
        return cls(
            names, headline, PixelStatistics.empty(len(names)), dict.fromkeys(names[1:], nothing), nothing
        )

    @classmethod
    def of(
        cls,
        truth: Segmentation,
        prediction: Segmentation,
        class_names: Sequence[str],
        *,
        headline: str | None = None,
    ) -> Scores:
        """Computes the scores of one image; see `empty` for the class names.

        Raises:
          ValueError: if shapes differ, or a pixel or an instance has a class without a name.
        """
        scores = cls.empty(class_names, headline=headline)
        count = len(scores.class_names)
        highest = max(truth.classes.max(initial=0), prediction.classes.max(initial=0))
        if highest >= count:
            raise ValueError(f"there is an instance of class {highest}, but only {count} names")
        return dataclasses.replace(
            scores,
            pixel=PixelStatistics.of(truth, prediction, count),
            per_class={
                name: InstanceStatistics.of(truth.of_class(index), prediction.of_class(index))
                for index, name in enumerate(scores.class_names[1:], start=1)
            },
            regardless=InstanceStatistics.of(truth, prediction),
        )

    def __add__(self, other: Scores) -> Scores:
        """Pools the images of both."""
        if (self.class_names, self.headline) != (other.class_names, other.headline):
            raise ValueError("scores of different classes do not add up")
        return dataclasses.replace(
            self,
            pixel=self.pixel + other.pixel,
            per_class={name: self.per_class[name] + other.per_class[name] for name in self.per_class},
            regardless=self.regardless + other.regardless,
        )

    def compute(self) -> dict[str, Any]:
        """Returns all scores, ready for JSON, with None for undefined values.

        Returns:
          What `PixelStatistics.compute` and, for instances of the headline class,
          `InstanceStatistics.compute` return; `instances`, the name of that class; `per_class`, the latter
          for every class; `all`, the latter for instances of all classes together.
        """
        per_class = {name: statistics.compute() for name, statistics in self.per_class.items()}
        numbers: dict[str, Any] = {
            **self.pixel.compute(self.class_names),
            **per_class[self.headline],
            "instances": self.headline,
            "per_class": per_class,
            "all": self.regardless.compute(),
        }
        return _without_nan(numbers)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
