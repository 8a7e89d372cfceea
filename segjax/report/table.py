"""Score tables that compare methods, for the terminal and the HTML report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from segjax.evaluation.statistics import Difference
from segjax.evaluation.uncertainty import Estimate, Uncertainty
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
# Scores whose intervals the terminal shows.
HEADLINES = ("AP 0.5", "PQ")
PER_CLASS: dict[str, Callable[[InstanceScores], float]] = {
    "AP 0.5": lambda scores: scores.ap[0.5],
    "AP 0.75": lambda scores: scores.ap[0.75],
    "precision": lambda scores: scores.precision,
    "recall": lambda scores: scores.recall,
    "PQ": lambda scores: scores.pq,
    "AJI": lambda scores: scores.aji,
}


class Cell(NamedTuple):
    """A number in a table.

    Attributes:
      value: a score, NaN if undefined, or a number of instances.
      interval: its bootstrap interval of 95 %.
      is_bold: whether it is better than the baseline, and the interval of the difference excludes 0.
      is_signed: whether it is a difference, which has a sign.
    """

    value: float
    interval: tuple[float, float] | None = None
    is_bold: bool = False
    is_signed: bool = False

    @property
    def text(self) -> str:
        """The value, with three digits if it is a score."""
        return self._format(self.value)

    @property
    def interval_text(self) -> str:
        """The interval, such as "[0.512, 0.613]"; "" without one."""
        return "" if self.interval is None else f"[{', '.join(map(self._format, self.interval))}]"

    def _format(self, value: float) -> str:
        if isinstance(value, int):
            return str(value)
        return f"{value:+.3f}" if self.is_signed and not math.isnan(value) else format_score(value)


@dataclasses.dataclass(frozen=True)
class Table:
    """Scores of several methods.

    Attributes:
      header: the name of each column.
      rows: the leading cells of each row, the method last. Rows that agree in all others are a group.
      cells: the numbers of each row, one for each remaining column.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    cells: tuple[tuple[Cell, ...], ...]

    def __str__(self) -> str:
        """Returns aligned columns for the terminal, without intervals; `*` marks bold numbers."""
        lines: list[Sequence[str]] = [self.header]
        for names, cells in zip(self.rows, self.cells, strict=True):
            lines.append([*names, *(cell.text + ("*" if cell.is_bold else " ") for cell in cells)])
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


def comparison(methods: Mapping[str, Scores], uncertainty: Uncertainty) -> Table:
    """Returns one row per method, with the scores of `OVERALL` and their intervals."""

    def cell(method: str, name: str) -> Cell:
        value = OVERALL[name](methods[method])
        estimate = uncertainty.scores[method].get(name)
        difference = uncertainty.differences.get(method, {}).get(name)
        return Cell(
            value,
            None if estimate is None else estimate.interval,
            difference is not None and difference.is_better,
        )

    return Table(
        header=("method", *OVERALL),
        rows=tuple((name,) for name in methods),
        cells=tuple(tuple(cell(method, name) for name in OVERALL) for method in methods),
    )


def differences(uncertainty: Uncertainty) -> Table:
    """Returns the differences from the baseline: one row per method and score, bold where they are clear."""
    rows, cells = [], []
    for method, by_name in uncertainty.differences.items():
        for name, one in by_name.items():
            rows.append((method, name))
            p_value = math.nan if one.p_value is None else one.p_value
            detectable = math.nan if one.detectable is None else one.detectable
            difference = Cell(one.value, one.interval, one.is_clear, is_signed=True)
            cells.append((difference, Cell(p_value), Cell(detectable)))
    header = ("method", "score", "difference [95 %]", "p", "detectable")
    return Table(header, tuple(rows), tuple(cells))


def summary(methods: Mapping[str, Scores], uncertainty: Uncertainty) -> str:
    """Returns the comparison for the terminal, with the intervals of the scores in `HEADLINES`."""
    lines = [str(comparison(methods, uncertainty))]
    baseline = uncertainty.baseline
    kinds: tuple[tuple[Mapping[str, Mapping[str, Estimate | Difference]], bool], ...] = (
        (uncertainty.scores, False),
        (uncertainty.differences, True),
    )
    for numbers, is_signed in kinds:
        for method, by_name in numbers.items():
            cells = {
                name: Cell(by_name[name].value, by_name[name].interval, is_signed=is_signed)
                for name in HEADLINES
                if name in by_name and by_name[name].interval is not None
            }
            title = f"{method} - {baseline}" if is_signed else method
            texts = [f"{name} {cell.text} {cell.interval_text}" for name, cell in cells.items()]
            lines += [f"{title}: {', '.join(texts)}"] if texts else []
    if len(lines) > 1:
        unit = uncertainty.unit + ("" if uncertainty.count == 1 else "s")
        lines.insert(1, f"\n95 % intervals over {uncertainty.count} {unit}:")
    return "\n".join(lines)


def per_class(methods: Mapping[str, Scores]) -> Table:
    """Returns one row per class and method, and per method for instances of any class."""
    names = list(next(iter(methods.values())).per_class) if methods else []
    rows = [(name, method) for name in [*names, "any class"] for method in methods]
    cells = []
    for name, method in rows:
        scores = methods[method]
        instances = scores.per_class.get(name, scores.all)
        pixels = (scores.iou.get(name, math.nan), scores.dice.get(name, math.nan))
        values = (*pixels, *(get(instances) for get in PER_CLASS.values()))
        cells.append((Cell(instances.n_true), Cell(instances.n_pred), *map(Cell, values)))
    header = ("instances", "method", "true", "predicted", "IoU", "Dice", *PER_CLASS)
    return Table(header, tuple(rows), tuple(cells))
