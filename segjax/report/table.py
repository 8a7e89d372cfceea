"""Score tables that compare methods, for the terminal and the HTML report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Displayed scores of `Scores.compute()`; higher is better for all.
OVERALL: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "IoU": lambda scores: scores["iou"][scores["instances"]],
    "Dice": lambda scores: scores["dice"][scores["instances"]],
    "AP 0.5": lambda scores: scores["ap"]["0.5"],
    "AP 0.75": lambda scores: scores["ap"]["0.75"],
    "F1": lambda scores: scores["f1"],
    "PQ": lambda scores: scores["pq"],
    "AJI": lambda scores: scores["aji"],
    "mean IoU": lambda scores: scores["mean_iou"],
    "pixel acc.": lambda scores: scores["pixel_accuracy"],
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Numbers of several methods.

    Attributes:
      header: the name of each column.
      rows: what stands at the left of each row, one or more cells.
      values: of each row, one for every column that is left; None if undefined.
      groups: of each row; the best of a column is sought among the rows of one group.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    values: tuple[tuple[float | None, ...], ...]
    groups: tuple[str, ...]

    def best(self, row: int, column: int) -> bool:
        """Whether a value is the best of its group, to the digits that are shown and with a rival."""
        rivals = [
            format_score(values[column])
            for values, group in zip(self.values, self.groups, strict=True)
            if group == self.groups[row] and values[column] is not None
        ]
        return len(rivals) > 1 and format_score(self.values[row][column]) == max(rivals)

    def __str__(self) -> str:
        return as_text(self)


def format_score(value: float | None) -> str:
    """A score with the three digits that are shown, a dash for None."""
    return "-" if value is None else f"{value:.3f}"


def comparison(metrics: Mapping[str, Any]) -> Table:
    """One row for each method, the scores of `OVERALL` beside each other.

    Args:
      metrics: of which `methods` maps the name of a method to what `Scores.compute` returns.
    """
    methods = metrics["methods"]
    return Table(
        header=("method", *OVERALL),
        rows=tuple((name,) for name in methods),
        values=tuple(tuple(get(scores) for get in OVERALL.values()) for scores in methods.values()),
        groups=("",) * len(methods),
    )


def per_class(metrics: Mapping[str, Any]) -> Table:
    """One row for each class and method, and for instances whatever their class.

    Args:
      metrics: as of `comparison`.
    """
    methods = metrics["methods"]
    rows, values = [], []
    names = list(next(iter(methods.values()))["per_class"]) if methods else []
    for name in [*names, "all"]:
        for method, scores in methods.items():
            metrics_of_class = scores["all"] if name == "all" else scores["per_class"][name]
            rows.append(("any class" if name == "all" else name, method))
            values.append(
                (
                    scores["iou"].get(name) if name != "all" else None,
                    scores["dice"].get(name) if name != "all" else None,
                    metrics_of_class["ap"]["0.5"],
                    metrics_of_class["ap"]["0.75"],
                    *(metrics_of_class[key] for key in ("precision", "recall", "pq", "aji")),
                )
            )
    header = ("instances", "method", "IoU", "Dice", "AP 0.5", "AP 0.75", "precision", "recall", "PQ", "AJI")
    return Table(header, tuple(rows), tuple(values), tuple(row[0] for row in rows))


def as_text(table: Table) -> str:
    """Aligned columns for the terminal; `*` marks the best."""
    lines: list[Sequence[str]] = [[*table.header]]
    for index, (row, values) in enumerate(zip(table.rows, table.values, strict=True)):
        cells = (
            format_score(value) + ("*" if table.best(index, column) else " ")
            for column, value in enumerate(values)
        )
        lines.append([*row, *cells])
    left = len(table.header) - len(table.values[0]) if table.values else 1
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
