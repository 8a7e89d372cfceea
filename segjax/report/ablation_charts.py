"""The charts of an ablation: scores against time, per class, learning curves, main effects."""

from __future__ import annotations

from collections.abc import Sequence

from segjax.report.ablation_rows import AblationReport, Row
from segjax.report.charts import bars, curves, scatter


def make_charts(report: AblationReport) -> list[tuple[str, bytes, str]]:
    """Returns title, PNG and description of each chart that the rows have values for."""
    # A row that the sweep no longer has may have the label of one that it has.
    done = [row for row in report.rows if report.score in row.scores and row.is_present]
    charts: list[tuple[str, bytes, str]] = []
    for title, name in (("prediction, s/image", "seconds_per_image"), ("training, s", "train_seconds")):
        points = {
            row.label: (getattr(row.costs, name), row.scores[report.score].mean)
            for row in done
            if getattr(row.costs, name)
        }
        if len(points) > 1:
            text = f"{report.score} against {title}"
            charts.append((text, scatter(points, x=title, y=report.score), text))
    for name in _per_class(done):
        values = {row.label: row.scores[name].mean for row in done if name in row.scores}
        charts.append((name, bars(values, title="", fmt="%.3f"), f"{name} of each row"))
    if losses := {row.label: row.curve for row in done if row.curve}:
        charts.append(("training loss", curves(losses, x="step", y="loss"), "training loss of each row"))
    for field in dict.fromkeys(field for row in done for field in row.fields):
        groups: dict[str, list[float]] = {}
        for row in done:
            groups.setdefault(row.fields.get(field, "-"), []).append(row.scores[report.score].mean)
        if 1 < len(groups) < len(done):  # else they are the rows themselves
            effects = {value: sum(scores) / len(scores) for value, scores in groups.items()}
            title = f"mean {report.score} by {field}"
            charts.append((title, bars(effects, title="", fmt="%.3f"), title))
    return charts


def _per_class(rows: Sequence[Row]) -> list[str]:
    return [name for name in dict.fromkeys(n for row in rows for n in row.scores) if name.startswith("Dice ")]
