"""Scores in the sense of published tools and challenges, with the choices that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.metrics.assignment import match
from segjax.metrics.averages import average
from segjax.metrics.counts import Counts, pooled
from segjax.metrics.instance import InstanceStatistics
from segjax.metrics.instance_scores import InstanceScores
from segjax.metrics.options import InstanceOptions
from segjax.metrics.overlaps import Overlaps
from segjax.segmentation import Segmentation

# The challenge NeurIPS 2022 scores images of at least so many pixels in patches with sides of so many pixels.
LARGE, PATCH = 25_000_000, 2000

OPTIONS: dict[str, InstanceOptions] = {
    "stardist": InstanceOptions(strict=False, empty="zero", average="pooled"),
    "dsb2018": InstanceOptions(strict=True, empty="nan", average="image"),
    "hovernet": InstanceOptions(strict=True, empty="nan", average="image"),
    "pannuke": InstanceOptions(strict=True, empty="nan_without_truth", average="group"),
    "neurips2022": InstanceOptions(strict=False, empty="zero", average="image"),
}
# The names that the tools use, and those of `InstanceScores`.
NAMES: dict[str, dict[str, str]] = {
    "stardist": {
        "accuracy": "ap",
        "precision": "precision",
        "recall": "recall",
        "f1": "f1",
        "panoptic_quality": "pq",
        "mean_true_score": "mean_true_score",
        "mean_matched_score": "sq",
    },
    "dsb2018": {"score": "mean_ap"},
    "hovernet": {"dq": "rq", "sq": "sq", "pq": "pq", "aji": "aji", "aji_plus": "aji_plus"},
    "pannuke": {"bpq": "pq"},
}


@dataclasses.dataclass(frozen=True)
class InnerCounts(Counts):
    """Counts of the instances of any class away from the edges of the image, at IoU 0.5.

    Attributes:
      matched: true positives.
      num_true: instances in the truth.
      num_predicted: instances in the prediction.
    """

    matched: int = 0
    num_true: int = 0
    num_predicted: int = 0

    @classmethod
    def of(
        cls,
        truth: Segmentation,
        prediction: Segmentation,
        overlaps: Overlaps,
        *,
        large: int = LARGE,
        patch: int = PATCH,
    ) -> InnerCounts:
        """Counts one image as the challenge NeurIPS 2022 does.

        Args:
          truth: ground truth.
          prediction: prediction of the same shape.
          overlaps: their table.
          large: number of pixels from which an image is cut into patches, padded with background.
          patch: side of a patch, pixels.
        """
        tables = [overlaps]
        height, width = truth.shape
        if height * width >= large:
            corners = [(y, x) for y in range(0, height, patch) for x in range(0, width, patch)]
            tables = [
                Overlaps.of(*(_patch(side, y, x, patch) for side in (truth, prediction))) for y, x in corners
            ]
        tables = [table.inner() for table in tables]
        return cls(
            sum(len(match(table, 0.5)) for table in tables),
            sum(len(table.truth) for table in tables),
            sum(len(table.prediction) for table in tables),
        )

    def compute(self) -> dict[str, float]:
        """Returns F1, precision and recall, 0 without a true positive."""
        return {
            "f1": 2 * self.matched / max(1, self.num_true + self.num_predicted),
            "precision": self.matched / max(1, self.num_predicted),
            "recall": self.matched / max(1, self.num_true),
        }


def _patch(segmentation: Segmentation, y: int, x: int, side: int) -> Segmentation:
    planes = []
    for plane in (segmentation.labels, segmentation.semantic):
        cut = plane[y : y + side, x : x + side]
        planes.append(np.pad(cut, ((0, side - cut.shape[0]), (0, side - cut.shape[1]))))
    return Segmentation.from_labels(planes[0], semantic=planes[1])


def published_scores(
    every: Sequence[InstanceStatistics],
    inner: Sequence[InnerCounts],
    per_class: Sequence[Mapping[str, InstanceStatistics]],
    groups: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Returns the scores of each tool by its name, with the options that they were computed with.

    Args:
      every: counts of the instances of any class of each image; there is at least one image.
      inner: counts of each image without the instances at its edges.
      per_class: counts of each image by class.
      groups: the group of each image; a tissue for PanNuke.
    """
    rows = {tool: [_row(tool, counts.compute(OPTIONS[tool])) for counts in every] for tool in NAMES}
    rows["stardist"] = [
        _row("stardist", pooled(every, InstanceStatistics.empty()).compute(OPTIONS["stardist"]))
    ]
    for row, classes in zip(rows["pannuke"], per_class, strict=True):
        row["mpq"] = average([counts.compute(OPTIONS["pannuke"]).pq for counts in classes.values()])
    rows["neurips2022"] = [counts.compute() for counts in inner]
    return {
        tool: {"options": vars(options), **average(rows[tool], groups, options.average)}
        for tool, options in OPTIONS.items()
    }


def _row(tool: str, scores: InstanceScores) -> dict[str, float]:
    """Returns the scores of one image under the names of a tool."""
    values = {**vars(scores), "ap": next(iter(scores.ap.values()))}
    return {name: values[field] for name, field in NAMES[tool].items()}
