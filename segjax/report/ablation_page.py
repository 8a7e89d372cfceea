"""The tables of an ablation, as Markdown, CSV, JSON and one self-contained HTML file."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segjax.files import printable, spreadsheet_text, write_json, write_text
from segjax.report.ablation_charts import make_charts
from segjax.report.ablation_rows import AblationReport, Row
from segjax.report.page import png_uri, render
from segjax.report.table import format_score

# Scores that the tables leave out, because others say the same.
HIDDEN = ("Dice", "F1")
MIB = 2**20


class Column(NamedTuple):
    """A column of the table.

    Attributes:
      name: its header.
      text: returns the cell of a row; "" if it is empty.
      bold: returns whether the cell of a row is bold.
    """

    name: str
    text: Callable[[Row], str]
    bold: Callable[[Row], bool] = lambda _: False


def write_ablation(folder: Path, report: AblationReport, picture: bytes | None = None) -> None:
    """Writes `table.md`, `table.csv`, `table.json` and `index.html`.

    Args:
      folder: the folder of the sweep.
      report: the results.
      picture: a PNG of one image through every row.
    """
    columns = make_columns(report)
    write_text(folder / "table.md", markdown(report, columns))
    write_text(folder / "table.csv", as_csv(report))
    write_json(folder / "table.json", _without_nan(dataclasses.asdict(report)))
    page = render(
        "ablation.html",
        report=report,
        title=report.title,
        columns=columns,
        notes=notes(report),
        picture=None if picture is None else png_uri(picture),
        charts=[(title, png_uri(chart), text) for title, chart, text in make_charts(report)],
    )
    write_text(folder / "index.html", page)


def make_columns(report: AblationReport) -> list[Column]:
    """Returns the columns that have a value in some row."""
    names = [
        name for name in dict.fromkeys(n for row in report.rows for n in row.scores) if name not in HIDDEN
    ]
    columns = [
        Column("rank", lambda row: "" if row.rank is None else str(row.rank)),
        Column("point", lambda row: row.label),
        *(_score_column(name) for name in names),
        Column("worst perturbation", lambda row: row.worst_perturbation),
        Column(f"difference in {report.score} [95 %]", lambda row: _difference(row, report.score)),
        Column("p", lambda row: _number(row, report.score, "p_value")),
        Column("detectable", lambda row: _number(row, report.score, "detectable")),
        Column("training", lambda row: _seconds(row.costs.train_seconds)),
        Column("s/image", lambda row: _quantity(row.costs.seconds_per_image, 1)),
        Column("parameters", lambda row: _quantity(row.costs.parameters, 1e6, " M")),
        Column("step, per image", lambda row: _quantity(row.costs.flops, 1e9, " GFLOP")),
        Column("step memory", lambda row: _quantity(row.costs.step_bytes, MIB, " MiB")),
        Column("peak memory", lambda row: _quantity(row.costs.peak_bytes, MIB, " MiB")),
        Column("total", lambda row: _seconds(row.costs.seconds)),
        Column("state", lambda row: row.status.partition(": ")[0]),
    ]
    return [column for column in columns if any(column.text(row) for row in report.rows)]


def notes(report: AblationReport) -> list[str]:
    """Returns the sentences that explain the table."""
    sentences = [
        f"Scores are pooled over {report.images}; with several seeds, mean ± standard deviation.",
        f"The baseline is {report.rows[0].label}. Bold: better than the baseline, and the bootstrap interval"
        " of the difference excludes 0. p: Wilcoxon signed-rank test, paired by image or group. detectable:"
        " smallest true difference that such a comparison detects with a probability of 80 %. Equal scores"
        " have the same rank.",
    ]
    incomplete = [f"{row.label} ({row.status})" for row in report.rows if row.status != "done"]
    if incomplete:
        sentences.append(
            f"{len(incomplete)} of {len(report.rows)} rows are incomplete: {', '.join(incomplete)}."
        )
    return sentences


def markdown(report: AblationReport, columns: Sequence[Column]) -> str:
    """Returns the table in Markdown, with its question, notes and command."""

    def cell(column: Column, row: Row) -> str:
        text = " ".join(column.text(row).split()).replace("|", r"\|")
        return f"**{text}**" if text and column.bold(row) else text

    lines = [f"# {report.title}", "", *([report.question, ""] if report.question else [])]
    lines += [f"    {report.command}", ""]
    lines += [f"| {' | '.join(column.name for column in columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(cell(column, row) for column in columns)} |" for row in report.rows]
    lines += ["", *notes(report), "", *report.environment, ""]
    lines += [f"- {row.label}: `{row.command}`" for row in report.rows if row.command]
    return "\n".join(lines).rstrip() + "\n"


def as_csv(report: AblationReport) -> str:
    """Returns one line per row with all numbers; cells without a value are empty."""
    records = []
    for row in report.rows:
        record: dict[str, Any] = {
            "point": row.label,
            **{f"field {name}": value for name, value in row.fields.items()},
        }
        for name, score in row.scores.items():
            for field, value in dataclasses.asdict(score).items():
                ends = (("low", 0), ("high", 1)) if "interval" in field else ()
                record |= {f"{name} {field} {end}": value and value[i] for end, i in ends}
                record |= {} if ends else {f"{name} {field}": value}
        record |= {"status": row.status, "num_done": row.num_done, "rank": row.rank, **vars(row.costs)}
        records.append(record)
    header = dict.fromkeys(name for record in records for name in record)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(header), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: spreadsheet_text(printable(_plain(value))) for name, value in record.items()})
    return file.getvalue()


def _score_column(name: str) -> Column:
    def text(row: Row) -> str:
        score = row.scores.get(name)
        if score is None:
            return ""
        return format_score(score.mean) + ("" if score.std is None else f" ± {format_score(score.std)}")

    return Column(name, text, lambda row: name in row.scores and row.scores[name].is_better)


def _difference(row: Row, name: str) -> str:
    score = row.scores.get(name)
    if score is None or score.difference is None or math.isnan(score.difference):
        return ""
    ends = score.difference_interval
    return f"{score.difference:+.3f}" + ("" if ends is None else f" [{ends[0]:+.3f}, {ends[1]:+.3f}]")


def _number(row: Row, name: str, field: str) -> str:
    score = row.scores.get(name)
    value = None if score is None else getattr(score, field)
    return "" if value is None else format_score(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"


def _quantity(value: float | None, unit: float, name: str = "") -> str:
    return "" if value is None else f"{value / unit:.3g}{name}"


def _plain(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_without_nan(item) for item in value]
    return None if value != value else value
