"""All pixel and instance scores of a set of images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from segjax.errors import InputError
from segjax.metrics.averages import average
from segjax.metrics.counting import CountScores, count_scores
from segjax.metrics.counts import pooled
from segjax.metrics.details import DetailOptions, ImageDetails, detail_scores, precision_recall
from segjax.metrics.instance import InstanceStatistics
from segjax.metrics.instance_scores import InstanceScores
from segjax.metrics.options import InstanceOptions
from segjax.metrics.overlaps import Overlaps
from segjax.metrics.pixel import PixelScores, PixelStatistics
from segjax.metrics.published import InnerCounts, published_scores
from segjax.segmentation import Segmentation

# Keys of the scores beside the names of the classes, see `detail_scores`.
RESERVED = frozenset({"all", "mean", "options", "q1", "q2", "q3", "q4"})


def check_class_names(class_names: Sequence[str]) -> None:
    """Checks that scores by class can have the names of the classes.

    Args:
      class_names: names of the classes, background first.

    Raises:
      InputError: if a class is called as a part of the scores.
    """
    if reserved := sorted(RESERVED.intersection(class_names[1:])):
        raise InputError(f"a class is called {reserved[0]!r}, as a part of the scores: rename it")


@dataclasses.dataclass(frozen=True, eq=False)
class Scores(InstanceScores, PixelScores):
    """Pixel scores of every class, and instance scores of one of them; NaN where undefined.

    Adding two gives the scores of the images of both.

    Attributes:
      instances: name of the class whose instances `ap`, `pq`, `aji` and the like refer to.
      per_class: instance scores of every foreground class, by name.
      all: instance scores regardless of the class.
      options: options by which these scores were computed.
      statistics: the counts that they were computed from.
    """

    instances: str
    per_class: dict[str, InstanceScores]
    all: InstanceScores
    options: InstanceOptions
    statistics: Statistics = dataclasses.field(repr=False)

    def __add__(self, other: Scores) -> Scores:
        """Returns the scores of the images of both.

        Raises:
          ValueError: if classes or options differ, or an image is in both.
        """
        if self.options != other.options:
            raise ValueError(f"scores with {self.options} and {other.options} do not add up")
        names = {image.name for image in self.statistics.images if image.name}
        for image in other.statistics.images:
            if image.name in names:
                raise ValueError(f"{image.name!r} is in both scores: score each image once")
        return (self.statistics + other.statistics).compute(self.options)

    @property
    def published(self) -> dict[str, dict[str, Any]]:
        """Scores of the instances of any class in the sense of published tools, with their options."""
        images = self.statistics.images or (_nothing(self.statistics.class_names),)
        return published_scores(
            [image.all for image in images],
            [image.inner for image in images],
            [image.per_class for image in images],
            [image.group for image in images],
        )

    @property
    def count(self) -> CountScores:
        """Errors of the number of instances of any class."""
        counts = [image.all for image in self.statistics.images]
        return count_scores([one.num_true for one in counts], [one.num_predicted for one in counts])

    @property
    def details(self) -> dict[str, Any]:
        """See `detail_scores`; empty if they were not counted for each image."""
        images = [image.details for image in self.statistics.images if image.details is not None]
        if not images or len(images) < len(self.statistics.images):
            return {}
        return detail_scores(images, self.statistics.class_names)

    @property
    def precision_recall(self) -> dict[str, list[tuple[float, float]]]:
        """Recall and precision of each class at IoU 0.5; empty if predictions have no scores."""
        images = [image.details for image in self.statistics.images if image.details is not None]
        return precision_recall(images, self.statistics.class_names) if images else {}

    def as_dict(self) -> dict[str, Any]:
        """Returns the scores for JSON: thresholds become strings such as `"0.5"`, NaN and infinity None."""
        fields = {name: value for name, value in vars(self).items() if name != "statistics"}
        result: dict[str, Any] = jsonable(
            {**fields, "count": self.count, "published": self.published, **self.details}
        )
        return result


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStatistics:
    """Counts of one image.

    Attributes:
      name: name of the image.
      group: patient, tissue or the like, for means over groups.
      pixel: pixel counts of all classes.
      per_class: instance counts of each foreground class, by name.
      all: instance counts regardless of the class.
      inner: the same without the instances at the edges of the image.
      details: further counts, if they were requested.
    """

    name: str
    group: str
    pixel: PixelStatistics
    per_class: dict[str, InstanceStatistics]
    all: InstanceStatistics
    inner: InnerCounts
    details: ImageDetails | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Counts of a set of images, which `Scores` are computed from; adding two joins their images.

    Attributes:
      class_names: K names, background first.
      headline: the class that the top-level instance scores refer to.
      images: the counts of each image.
    """

    class_names: tuple[str, ...]
    headline: str
    images: tuple[ImageStatistics, ...] = ()

    @classmethod
    def empty(cls, class_names: Sequence[str], *, headline: str | None = None) -> Statistics:
        """Returns the counts of zero images.

        Args:
          class_names: K >= 2 unique names, background first.
          headline: a foreground class; the first one if None.

        Raises:
          ValueError: if there is no such class, names repeat, or a name is one of `RESERVED`.
        """
        names = tuple(class_names)
        check_class_names(names)
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"class_names must be the background and at least one other, not {names}")
        headline = names[1] if headline is None else headline
        if headline not in names[1:]:
            raise ValueError(f"headline class {headline!r} is none of {', '.join(names[1:])}")
        return cls(names, headline)

    @classmethod
    def of(
        cls,
        truth: Segmentation,
        prediction: Segmentation,
        class_names: Sequence[str],
        *,
        headline: str | None = None,
        name: str = "",
        group: str = "",
        details: DetailOptions | None = None,
    ) -> Statistics:
        """Counts one image.

        Args:
          truth: ground truth.
          prediction: prediction of the same shape.
          class_names: see `empty`.
          headline: see `empty`.
          name: name of the image; `Scores` that have an image with the same name do not add up.
          group: patient, tissue or the like, for means over groups.
          details: options of the scores that take longer, which are left out if it is None.

        Raises:
          ValueError: if shapes differ, or a pixel or an instance has a class without a name.
        """
        start = cls.empty(class_names, headline=headline)
        count = len(start.class_names)
        highest = max(truth.classes.max(initial=0), prediction.classes.max(initial=0))
        if highest >= count:
            raise ValueError(f"there is an instance of class {highest}, but only {count} names")
        overlaps = Overlaps.of(truth, prediction)
        every = InstanceStatistics.of_overlaps(overlaps)
        foreground = enumerate(start.class_names[1:], start=1)
        tables = {title: overlaps.of_class(index) for index, title in foreground}
        image = ImageStatistics(
            name,
            group,
            pixel=PixelStatistics.of(truth, prediction, count),
            per_class={
                title: every if table is overlaps else InstanceStatistics.of_overlaps(table)
                for title, table in tables.items()
            },
            all=every,
            inner=InnerCounts.of(truth, prediction, overlaps),
            details=None
            if details is None
            else ImageDetails.of(truth, prediction, overlaps, tables, name=name, options=details),
        )
        return dataclasses.replace(start, images=(image,))

    def __add__(self, other: Statistics) -> Statistics:
        """Joins the images of both."""
        if (self.class_names, self.headline) != (other.class_names, other.headline):
            raise ValueError("statistics of different classes do not add up")
        return dataclasses.replace(self, images=self.images + other.images)

    def compute(self, options: InstanceOptions = InstanceOptions()) -> Scores:
        """Returns the scores of the images: of the pooled counts, or means over images or groups.

        The order of the images does not matter, to the last bit.
        """
        if options.average == "pooled" or not self.images:
            fields = self._scores_of(self.images, options)
        else:
            rows = [self._scores_of([image], options) for image in self.images]
            fields = average(rows, [image.group for image in self.images], options.average)
        return Scores(**fields, options=options, statistics=self)

    def _scores_of(self, images: Sequence[ImageStatistics], options: InstanceOptions) -> dict[str, Any]:
        """Returns the fields of `Scores` of the pooled counts of some images."""
        zero = _nothing(self.class_names)
        per_class = {
            name: pooled([image.per_class[name] for image in images], zero.all).compute(options)
            for name in self.class_names[1:]
        }
        return {
            **vars(pooled([image.pixel for image in images], zero.pixel).compute(self.class_names)),
            **vars(per_class[self.headline]),
            "instances": self.headline,
            "per_class": per_class,
            "all": pooled([image.all for image in images], zero.all).compute(options),
        }


def _nothing(class_names: Sequence[str]) -> ImageStatistics:
    """Returns the counts of an image without pixels."""
    zero = InstanceStatistics.empty()
    pixel = PixelStatistics.empty(len(class_names))
    return ImageStatistics("", "", pixel, dict.fromkeys(class_names[1:], zero), zero, InnerCounts())


def jsonable(value: Any) -> Any:
    """Returns scores for JSON, see `Scores.as_dict`."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {f"{key:g}" if isinstance(key, float) else key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
