"""The tables of an evaluation report: groups, sizes, boundaries, COCO, errors, confusion, images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.evaluation.evaluate import Evaluation
from segjax.metrics.counts import pooled
from segjax.metrics.errors import ErrorScores
from segjax.metrics.pixel import PixelStatistics
from segjax.metrics.scores import Scores
from segjax.report.table import Cell, Table

# More groups or images would make the page slow.
MAX_GROUPS, MAX_IMAGES = 60, 1000
Details = Mapping[str, Any]
GROUP_SCORES = ("AP 0.5", "F1", "PQ", "AJI")


def by_group(methods: Mapping[str, Scores]) -> Table:
    """Returns one row per group and method; no row if each group is one image, or there are too many."""
    images = next((scores.statistics.images for scores in methods.values()), ())
    groups = sorted({image.group for image in images})
    rows: list[tuple[str, ...]] = []
    cells = []
    if len(groups) == len(images) or len(groups) > MAX_GROUPS or len(groups) < 2:
        groups = []
    for group in groups:
        for method, scores in methods.items():
            members = tuple(image for image in scores.statistics.images if image.group == group)
            part = dataclasses.replace(scores.statistics, images=members).compute(scores.options)
            values = (part.iou[part.instances], part.ap[0.5], part.f1, part.pq, part.aji)
            rows.append((group or "-", method))
            cells.append((Cell(len(members)), Cell(part.n_true), Cell(part.n_pred), *map(Cell, values)))
    header = ("group", "method", "images", "true", "predicted", "IoU", *GROUP_SCORES)
    return Table(header, tuple(rows), tuple(cells))


def by_size(methods: Mapping[str, Scores]) -> Table:
    """Returns the recall of each quarter of the areas of the true instances, of any class."""
    rows, cells = [], []
    for index in range(4):
        for method, scores in methods.items():
            edges = [*scores.all.size_quartiles.values()]
            low = "" if index == 0 else f"above {edges[index - 1]:g}"
            high = "" if index == 3 else f"up to {edges[index]:g}"
            if not any(map(math.isnan, edges)):
                rows.append((f"{f'{low}, {high}'.strip(', ')} pixels", method))
                cells.append((Cell(scores.all.recall_by_size[f"q{index + 1}"]),))
    return Table(("area", "method", "recall"), tuple(rows), tuple(cells))


def boundaries(details: Mapping[str, Details]) -> Table:
    """Returns the scores of the boundaries of each class, if they were computed."""
    names = ("hausdorff_95", "surface_dice", "boundary_precision", "boundary_recall", "boundary_f1")
    rows, cells = [], []
    surface = {method: one["surface"] for method, one in details.items() if one}
    for name in next((list(one)[1:] for one in surface.values()), []):
        for method, by_class in surface.items():
            scores = vars(by_class[name])
            rows.append((name, method))
            cells.append(tuple(Cell(scores[field]) for field in names))
    header = ("class", "method", *(name.replace("_", " ") for name in names))
    return Table(header, tuple(rows), tuple(cells))


def coco(details: Mapping[str, Details]) -> Table:
    """Returns COCO's scores by class, of the methods whose predictions have scores."""
    rows, cells = [], []
    header: tuple[str, ...] = ()
    for method, scores in details.items():
        for kind, by_class in scores.get("coco", {}).items():
            if kind == "options":
                continue
            for name, one in by_class.items():
                rows.append((name, kind, method))
                cells.append(tuple(map(Cell, vars(one).values())))
                header = tuple(name.replace("_", " ") for name in vars(one))
    return Table(("class", "by", "method", *header), tuple(rows), tuple(cells))


def errors(details: Mapping[str, Details], among: str = "all") -> Table:
    """Returns the errors by kind, with the AP and PQ that they cost.

    Args:
      details: `Scores.details` by method.
      among: "all", the name of a class, or a quarter of the areas, "q1" to "q4".
    """
    kinds: dict[str, dict[str, ErrorScores]] = {}
    for method, scores in details.items():
        for kind, one in scores.get("errors", {}).get(among, {}).items():
            kinds.setdefault(kind, {})[method] = one
    rows = [(kind.replace("_", " "), method) for kind, by_method in kinds.items() for method in by_method]
    cells = [
        (
            Cell(one.truth),
            Cell(one.predictions),
            Cell(one.d_ap, is_signed=True),
            Cell(one.d_pq, is_signed=True),
        )
        for by_method in kinds.values()
        for one in by_method.values()
    ]
    header = ("kind", "method", "true instances", "predictions", "AP if repaired", "PQ if repaired")
    return Table(header, tuple(rows), tuple(cells))


def confusion(scores: Scores) -> tuple[Table, np.ndarray]:
    """Returns the fractions of the pixels of each true class by predicted class, as a table and as [K, K]."""
    names = scores.statistics.class_names
    zero = PixelStatistics.empty(len(names))
    counts = pooled([image.pixel for image in scores.statistics.images], zero).confusion
    totals = counts.sum(axis=1, keepdims=True)
    fractions = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    cells = tuple(tuple(map(Cell, row)) for row in fractions.tolist())
    return Table(("true class", *names), tuple((name,) for name in names), cells), fractions


def images(evaluations: Mapping[str, Evaluation]) -> Table:
    """Returns one row per image and method."""
    rows, cells = [], []
    names = [name for one in evaluations.values() for name in one.per_image]
    for name in [*dict.fromkeys(names)][:MAX_IMAGES]:
        for method, evaluation in evaluations.items():
            one = evaluation.per_image[name]
            values = (one.iou[one.instances], one.ap[0.5], one.ap[0.75], one.pq, one.aji)
            rows.append((name, method))
            cells.append((Cell(one.n_true), Cell(one.n_pred), *map(Cell, values)))
    header = ("image", "method", "true", "predicted", "IoU", "AP 0.5", "AP 0.75", "PQ", "AJI")
    return Table(header, tuple(rows), tuple(cells))
