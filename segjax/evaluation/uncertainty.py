"""The uncertainty of the scores of methods on the same images: intervals, and paired differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.evaluation.statistics import RESAMPLES, Difference, by_group, compare, interval, pooled
from segjax.metrics.scores import Scores, Statistics


def image_ratios(statistics: Statistics) -> dict[str, tuple[float, float]]:
    """Returns numerator and denominator of the scores of an image; sums over images give the pooled scores.

    >>> from segjax.segmentation import Segmentation
    >>> truth = Segmentation.from_labels(np.array([[1, 1, 0, 2]]))
    >>> ratios = image_ratios(Statistics.of(truth, truth, ("background", "nucleus")))
    >>> ratios["IoU"], ratios["AP 0.5"], ratios["PQ"]
    ((3.0, 3.0), (2.0, 2.0), (4.0, 4.0))
    """
    (image,) = statistics.images
    instances = image.per_class[statistics.headline]
    total = instances.num_true + instances.num_predicted
    matched = dict(zip(instances.thresholds, instances.matched[0], strict=True))
    confusion = image.pixel.confusion
    hits = np.diag(confusion)
    sizes = confusion.sum(axis=0) + confusion.sum(axis=1)
    foreground = [*enumerate(statistics.class_names)][1:]
    index = statistics.class_names.index(statistics.headline)
    ratios = {
        "IoU": (hits[index], sizes[index] - hits[index]),
        "Dice": (2 * hits[index], sizes[index]),
        "AP 0.5": (matched[0.5], total - matched[0.5]),
        "AP 0.75": (matched[0.75], total - matched[0.75]),
        "F1": (2 * matched[0.5], total),
        "PQ": (2 * instances.sum_iou[0, 0], total),
        "AJI": (instances.intersection, instances.union),
    }
    if len(foreground) > 1:
        ratios |= {f"Dice {name}": (2 * hits[i], sizes[i]) for i, name in foreground}
    return {name: (float(numerator), float(denominator)) for name, (numerator, denominator) in ratios.items()}


class Estimate(NamedTuple):
    """A score of all images, pooled.

    Attributes:
      value: the score.
      interval: its bootstrap interval of 95 %, None with a single group.
    """

    value: float
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """Intervals of the scores of methods on the same images, and their differences from a baseline.

    Attributes:
      unit: the unit of the bootstrap: "image", or "group" if some group has several images.
      count: number of units.
      baseline: the method that the others are compared with; None with one method.
      scores: estimate by method and name of the score.
      differences: difference from the baseline by method and name of the score, without the baseline.
    """

    unit: str
    count: int
    baseline: str | None
    scores: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Difference]]

    @classmethod
    def of(cls, methods: Mapping[str, Scores], baseline: str | None = None) -> Uncertainty:
        """Computes intervals and differences.

        Args:
          methods: scores of the same images, by method.
          baseline: name of the method that the others are compared with; None for no differences.
        """
        images = next((scores.statistics.images for scores in methods.values()), ())
        groups = [image.group or f"{index} {image.name}" for index, image in enumerate(images)]
        counts = {name: _counts(scores.statistics, groups) for name, scores in methods.items()}
        others = [name for name in methods if baseline is not None and name != baseline]
        return cls(
            "image" if len(set(groups)) == len(groups) else "group",
            len(set(groups)),
            baseline if others else None,
            {
                method: {name: _estimate(values) for name, values in one.items()}
                for method, one in counts.items()
            },
            {
                method: {
                    name: compare(values, counts[baseline][name]) for name, values in counts[method].items()
                }
                for method in others
                if baseline is not None
            },
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the content for JSON; undefined numbers are None."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple | list):
                return [plain(item) for item in value]
            return None if value is None or not np.isfinite(value) else value

        return {
            "options": {"unit": self.unit, "units": self.count, "level": 0.95, "resamples": RESAMPLES},
            "baseline": self.baseline,
            "scores": {
                method: {
                    name: {key: plain(v) for key, v in one._asdict().items()} for name, one in by_name.items()
                }
                for method, by_name in self.scores.items()
            },
            "differences": {
                method: {
                    name: {key: plain(v) for key, v in vars(one).items()} | {"is_clear": one.is_clear}
                    for name, one in by_name.items()
                }
                for method, by_name in self.differences.items()
            },
        }


def _counts(statistics: Statistics, groups: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns numerators and denominators [1, G, 2] of the groups, by score; nothing without images."""
    ratios = [image_ratios(dataclasses.replace(statistics, images=(image,))) for image in statistics.images]
    names = ratios[0] if ratios else ()
    return {name: by_group(np.array([[row[name] for row in ratios]]), groups) for name in names}


def _estimate(counts: np.ndarray) -> Estimate:
    bounds = interval(counts)
    return Estimate(float(pooled(counts).mean()), None if bounds is None else bounds[0])
