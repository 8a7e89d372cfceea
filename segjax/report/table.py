"""Score tables that compare methods, for the terminal and the HTML report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from segjax.metrics.instance_scores import InstanceScores
from segjax.metrics.scores import Scores

# Displayed scores; higher is better for all.
OVERALL: dict[str, Callable[[Scores], float]] = {
    "IoU": lambda scores: scores.iou[scores.instances],
    "Dice": lambda scores: scores.dice[scores.instances],
    "AP 0.5": lambda scores: scores.ap[0.5],
    "AP 0.75": lambda scores: scores.ap[0.75],
    "F1": lambda scores: scores.f1,
    "PQ": lambda scores: scores.pq,
    "AJI": lambda scores: scores.aji,
    "mean IoU": lambda scores: scores.mean_iou,
    "pixel acc.": lambda scores: scores.pixel_accuracy,
}
PER_CLASS: dict[str, Callable[[InstanceScores], float]] = {
    "AP 0.5": lambda scores: scores.ap[0.5],
    "AP 0.75": lambda scores: scores.ap[0.75],
    "precision": lambda scores: scores.precision,
    "recall": lambda scores: scores.recall,
    "PQ": lambda scores: scores.pq,
    "AJI": lambda scores: scores.aji,
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Scores of several methods.

    Attributes:
      header: the name of each column.
      rows: the leading cells of each row, the method last. Rows that agree in all others are a group.
      values: the scores of each row, one for each remaining column; NaN if undefined.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    values: tuple[tuple[float, ...], ...]

    def best(self, row: int, column: int) -> bool:
        """Returns whether a score is the best of several in its group, at the displayed precision."""
        rivals = [
            format_score(values[column])
            for cells, values in zip(self.rows, self.values, strict=True)
            if cells[:-1] == self.rows[row][:-1] and not math.isnan(values[column])
        ]
        return len(rivals) > 1 and format_score(self.values[row][column]) == max(rivals)

    def __str__(self) -> str:
        """Returns aligned columns for the terminal; `*` marks the best."""
        lines: list[Sequence[str]] = [self.header]
        for index, (cells, values) in enumerate(zip(self.rows, self.values, strict=True)):
            marks = ("*" if self.best(index, column) else " " for column in range(len(values)))
            lines.append([*cells, *map("".join, zip(map(format_score, values), marks, strict=True))])
        left = len(self.rows[0]) if self.rows else 1
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column < left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


def format_score(value: float) -> str:
    """Formats a score with three digits, NaN as a dash."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def comparison(methods: Mapping[str, Scores]) -> Table:
    """Returns one row per method, with the scores of `OVERALL`."""
    return Table(
        header=("method", *OVERALL),
        rows=tuple((name,) for name in methods),
        values=tuple(tuple(get(scores) for get in OVERALL.values()) for scores in methods.values()),
    )


def per_class(methods: Mapping[str, Scores]) -> Table:
    """Returns one row per class and method, and per method for instances of any class."""
    names = list(next(iter(methods.values())).per_class) if methods else []
    rows = [(name, method) for name in [*names, "any class"] for method in methods]
    values = []
    for name, method in rows:
        scores = methods[method]
        instances = scores.per_class.get(name, scores.all)
        pixels = (scores.iou.get(name, math.nan), scores.dice.get(name, math.nan))
        values.append((*pixels, *(get(instances) for get in PER_CLASS.values())))
    return Table(("instances", "method", "IoU", "Dice", *PER_CLASS), tuple(rows), tuple(values))
