"""Scores of detected boxes, which may overlap: COCO's AP, and the errors by kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from segjax.metrics.averages import average
from segjax.metrics.coco import CocoOptions, CocoStatistics, box_pairs
from segjax.metrics.counts import pooled
from segjax.metrics.errors import ErrorStatistics
from segjax.metrics.overlaps import Objects, Overlaps
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Detected objects of one image.

    Attributes:
      boxes: [D, 4] float, `(x0, y0, x1, y1)` in pixels, with pixel edges at integers.
      classes: [D] int.
      scores: [D] float.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Detections:
        return Detections(self.boxes[index], self.classes[index], self.scores[index])


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionCounts:
    """Counts of the boxes of one image.

    Attributes:
      errors: number of boxes with each kind of error.
      coco: counts for COCO's scores of each foreground class, by name.
    """

    errors: ErrorStatistics
    coco: dict[str, CocoStatistics]

    @classmethod
    def of(
        cls,
        truth: Segmentation,
        detections: Detections,
        class_names: Sequence[str],
        *,
        name: str = "",
        options: CocoOptions = CocoOptions(),
    ) -> DetectionCounts:
        """Counts one image.

        Boxes with more than half of their pixels ignored in the truth are left out.

        Args:
          truth: ground truth; the boxes of its instances are the true boxes.
          detections: the detected objects.
          class_names: K names, background first.
          name: name of the image.
          options: how many boxes take part in COCO's scores.
        """
        ignored = truth.semantic == IGNORE
        is_visible = ~_is_hidden(detections.boxes, ignored)
        detections = detections[is_visible]
        true = Detections(truth.boxes.astype(float), truth.classes, truth.scores)
        areas = np.bincount(truth.labels.ravel(), minlength=truth.num_instances + 1)[1:]
        is_visible = ~_is_hidden(true.boxes, ignored)
        true, areas = true[is_visible], areas[is_visible]
        coco = {}
        for index, title in enumerate(class_names[1:], start=1):
            present, detected = true[true.classes == index], detections[detections.classes == index]
            coco[title] = CocoStatistics.of(
                box_pairs(present.boxes, detected.boxes),
                # As in COCO, the size of an object is that of its mask.
                areas[true.classes == index],
                _areas(detected.boxes),
                detected.scores,
                name=name,
                options=options,
            )
        return cls(ErrorStatistics.of(_overlaps(true, detections)), coco)


def detection_scores(images: Sequence[DetectionCounts], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns "coco" and "errors" of the boxes, as `detail_scores` does for masks; empty without images.

    Args:
      images: the counts of each image.
      class_names: K names, background first.
    """
    if not images:
        return {}
    options = next(iter(images[0].coco.values())).options
    zero = CocoStatistics.empty(options)
    by_class = {name: pooled([one.coco[name] for one in images], zero).compute() for name in class_names[1:]}
    errors = pooled([one.errors for one in images], ErrorStatistics()).compute(class_names)
    box = {"mean": average(list(by_class.values())), **by_class}
    return {"coco": {"options": options, "box": box}, "errors": errors}


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


def _overlaps(true: Detections, detections: Detections) -> Overlaps:
    """Returns the areas of the intersections of true and detected boxes."""
    rows, columns, common = [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0)]
    for row, box in enumerate(true.boxes):
        sides = np.minimum(detections.boxes[:, 2:], box[2:]) - np.maximum(detections.boxes[:, :2], box[:2])
        pixels = np.prod(np.maximum(sides, 0), axis=1)
        columns.append(np.flatnonzero(pixels))
        rows.append(np.full(len(columns[-1]), row))
        common.append(pixels[columns[-1]])
    sides = [
        Objects(
            np.arange(len(one.boxes)) + 1,
            _areas(one.boxes),
            one.classes,
            one.scores,
            np.ones(len(one.boxes), bool),
        )
        for one in (true, detections)
    ]
    return Overlaps(sides[0], sides[1], *map(np.concatenate, (rows, columns, common)))


def _is_hidden(boxes: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Returns whether more than half of the pixels of each box [D, 4] are ignored [H, W]."""
    if not ignored.any():
        return np.zeros(len(boxes), bool)
    sums = np.pad(ignored.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = ignored.shape
    x0, y0, x1, y1 = np.clip(np.round(boxes).astype(int), 0, [width, height, width, height]).T
    hidden = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return 2 * hidden > (x1 - x0) * (y1 - y0)
