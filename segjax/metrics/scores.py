"""All pixel and instance scores of a set of images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from segjax.metrics.instance import InstanceScores, InstanceStatistics
from segjax.metrics.pixel import PixelScores, PixelStatistics
from segjax.segmentation import Segmentation


@dataclasses.dataclass(frozen=True, eq=False)
class Scores(InstanceScores, PixelScores):
    """Pixel scores of every class, and instance scores of one of them; NaN where undefined.

    Attributes:
      instances: name of the class whose instances `ap`, `pq`, `aji` and the like refer to.
      per_class: instance scores of every foreground class, by name.
      all: instance scores regardless of the class.
    """

    instances: str
    per_class: dict[str, InstanceScores]
    all: InstanceScores

    def as_dict(self) -> dict[str, Any]:
        """Returns the scores for JSON: thresholds become strings such as `"0.5"`, and NaN becomes None."""
        result: dict[str, Any] = _jsonable(self)
        return result


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Counts of a set of images, which `Scores` are computed from; adding two pools their images.

    Attributes:
      class_names: K names, background first.
      headline: the class that the top-level instance scores refer to.
      pixel: pixel counts of all classes.
      per_class: instance counts of each foreground class, by name.
      all: instance counts regardless of the class.
    """

    class_names: tuple[str, ...]
    headline: str
    pixel: PixelStatistics
    per_class: dict[str, InstanceStatistics]
    all: InstanceStatistics

    @classmethod
    def empty(cls, class_names: Sequence[str], *, headline: str | None = None) -> Statistics:
        """Returns the counts of zero images.

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
        zero = InstanceStatistics.empty()
        return cls(names, headline, PixelStatistics.empty(len(names)), dict.fromkeys(names[1:], zero), zero)

    @classmethod
    def of(
        cls,
        truth: Segmentation,
        prediction: Segmentation,
        class_names: Sequence[str],
        *,
        headline: str | None = None,
    ) -> Statistics:
        """Counts one image; see `empty` for the class names.

        Raises:
          ValueError: if shapes differ, or a pixel or an instance has a class without a name.
        """
        start = cls.empty(class_names, headline=headline)
        count = len(start.class_names)
        highest = max(truth.classes.max(initial=0), prediction.classes.max(initial=0))
        if highest >= count:
            raise ValueError(f"there is an instance of class {highest}, but only {count} names")
        return dataclasses.replace(
            start,
            pixel=PixelStatistics.of(truth, prediction, count),
            per_class={
                name: InstanceStatistics.of(truth.of_class(index), prediction.of_class(index))
                for index, name in enumerate(start.class_names[1:], start=1)
            },
            all=InstanceStatistics.of(truth, prediction),
        )

    def __add__(self, other: Statistics) -> Statistics:
        """Pools the images of both."""
        if (self.class_names, self.headline) != (other.class_names, other.headline):
            raise ValueError("statistics of different classes do not add up")
        return dataclasses.replace(
            self,
            pixel=self.pixel + other.pixel,
            per_class={name: self.per_class[name] + other.per_class[name] for name in self.per_class},
            all=self.all + other.all,
        )

    def compute(self) -> Scores:
        """Returns the scores of the pooled counts."""
        per_class = {name: statistics.compute() for name, statistics in self.per_class.items()}
        return Scores(
            **vars(self.pixel.compute(self.class_names)),
            **vars(per_class[self.headline]),
            instances=self.headline,
            per_class=per_class,
            all=self.all.compute(),
        )


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {f"{key:g}" if isinstance(key, float) else key: _jsonable(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
