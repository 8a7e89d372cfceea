"""Scores that take longer: boundaries, COCO, calibration, kinds of errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from segjax.metrics.averages import average
from segjax.metrics.calibration import Calibration, are_probabilities
from segjax.metrics.coco import CocoOptions, CocoStatistics, Pairs, box_pairs
from segjax.metrics.counts import pooled
from segjax.metrics.errors import ErrorStatistics
from segjax.metrics.overlaps import Overlaps
from segjax.metrics.surface import SurfaceOptions, SurfaceStatistics
from segjax.segmentation import Segmentation
from segjax.settings import Settings
from segjax.typing import IGNORE


@dataclasses.dataclass(frozen=True)
class DetailOptions(Settings):
    """Options of the scores that take longer.

    Attributes:
      surface: how boundaries are compared.
      coco: how many predictions take part in COCO's scores.
    """

    surface: SurfaceOptions = SurfaceOptions()
    coco: CocoOptions = CocoOptions()


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDetails:
    """Counts of one image.

    Attributes:
      options: how the images were counted.
      surface: counts of the boundaries of each foreground class, by name.
      masks: matched predictions of each foreground class, by the IoU of masks.
      boxes: the same by the IoU of boxes.
      has_scores: whether a prediction has another score than 1; None without predictions.
      errors: the kinds of the instances.
    """

    options: DetailOptions
    surface: dict[str, SurfaceStatistics]
    masks: dict[str, CocoStatistics]
    boxes: dict[str, CocoStatistics]
    has_scores: bool | None
    errors: ErrorStatistics

    @classmethod
    def of(
        cls,
        truth: Segmentation,
        prediction: Segmentation,
        overlaps: Overlaps,
        tables: Mapping[str, Overlaps],
        *,
        name: str,
        options: DetailOptions,
    ) -> ImageDetails:
        """Counts one image.

        Args:
          truth: ground truth.
          prediction: prediction of the same shape.
          overlaps: their table.
          tables: the tables of each foreground class, by name, in the order of the classes.
          name: name of the image.
          options: how to count.
        """
        masks: dict[str, CocoStatistics] = {}
        boxes: dict[str, CocoStatistics] = {}
        ignored = truth.semantic == IGNORE
        true_windows, windows = (
            ndimage.find_objects(np.where(ignored, 0, side.labels)) for side in (truth, prediction)
        )
        for title, table in tables.items():
            true, predicted = table.truth, table.prediction
            of_truth, of_prediction = _boxes(true_windows, true.ids), _boxes(windows, predicted.ids)
            box_areas = np.prod(of_prediction[:, 2:] - of_prediction[:, :2], axis=1)
            pairs = Pairs(table.rows, table.columns, table.iou)
            for result, near, areas in (
                (masks, pairs, predicted.areas),
                (boxes, box_pairs(of_truth, of_prediction), box_areas),
            ):
                result[title] = CocoStatistics.of(
                    near, true.areas, areas, predicted.scores, name=name, options=options.coco
                )
        return cls(
            options,
            {
                title: SurfaceStatistics.of(truth.semantic, prediction.semantic, options.surface, index)
                for index, title in enumerate(tables, start=1)
            },
            masks,
            boxes,
            bool((prediction.scores != 1).any()) if prediction.num_instances else None,
            ErrorStatistics.of(overlaps),
        )


def _boxes(windows: Sequence[tuple[slice, slice]], ids: np.ndarray) -> np.ndarray:
    """Returns the boxes [N, 4] of the instances with these ids."""
    sides = [windows[index - 1] for index in ids]
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in sides], int).reshape(-1, 4)


def detail_scores(images: Sequence[ImageDetails], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns "surface" and "errors", and, if predictions have scores, "coco" and "calibration".

    Scores outside 0 to 1 are no probabilities, so that there is no "calibration".

    Args:
      images: the counts of at least one image.
      class_names: K names, background first.
    """
    options, names = images[0].options, class_names[1:]
    surface = {
        name: pooled([image.surface[name] for image in images], SurfaceStatistics(options.surface)).compute()
        for name in names
    }
    errors = pooled([image.errors for image in images], ErrorStatistics()).compute(class_names)
    result: dict[str, Any] = {"surface": {"options": options.surface, **surface}, "errors": errors}
    if _have_scores(images):
        zero = CocoStatistics.empty(options.coco)
        counts = {
            kind: {name: pooled([row[name] for row in rows], zero) for name in names}
            for kind, rows in (
                ("mask", [image.masks for image in images]),
                ("box", [image.boxes for image in images]),
            )
        }
        scores = {
            kind: {name: one.compute() for name, one in by_class.items()} for kind, by_class in counts.items()
        }
        means = {kind: {"mean": average(list(by_class.values()))} for kind, by_class in scores.items()}
        result["coco"] = {"options": options.coco, **{kind: means[kind] | scores[kind] for kind in scores}}
        correct = {name: one.correct() for name, one in counts["mask"].items()}
        correct["all"] = (
            np.concatenate([values for values, _ in correct.values()]),
            np.concatenate([hits for _, hits in correct.values()]),
        )
        if are_probabilities(correct["all"][0]):
            result["calibration"] = {name: Calibration.of(*values) for name, values in correct.items()}
    return result


def _have_scores(images: Sequence[ImageDetails]) -> bool:
    known = [image.has_scores for image in images if image.has_scores is not None]
    return any(known) or not known


def precision_recall(
    images: Sequence[ImageDetails], class_names: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Returns recall and precision of the masks of each class at IoU 0.5; empty without scores.

    Args:
      images: the counts of at least one image.
      class_names: K names, background first.
    """
    if not _have_scores(images):
        return {}
    zero = CocoStatistics.empty(images[0].options.coco)
    return {
        name: pooled([image.masks[name] for image in images], zero).precision_recall()
        for name in class_names[1:]
    }
