"""The charts of an evaluation report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from segjax.metrics.scores import Scores
from segjax.report.charts import curves, line_chart
from segjax.report.page import png_uri

# More curves in one chart cannot be distinguished.
MAX_CURVES = 8


class Chart(NamedTuple):
    """A chart.

    Attributes:
      name: its caption.
      uri: the PNG as a data URI.
      text: description of the chart, for readers that do not see it.
    """

    name: str
    uri: str
    text: str


def training_charts(curve: Sequence[Mapping[str, float]]) -> list[Chart]:
    """Returns a chart for each logged number, the loss first."""
    names = dict.fromkeys(name for entry in curve for name in entry if name != "step")
    charts = []
    for name in sorted(names, key=lambda name: name != "loss"):
        points = [
            (float(entry["step"]), float(entry[name])) for entry in curve if entry.get(name) is not None
        ]
        if chart := line_chart(points):
            last = next(value for _, value in reversed(points) if math.isfinite(value))
            charts.append(Chart(name, png_uri(chart), f"{name} at {len(points)} steps, last {last:.4g}"))
    return charts


def score_charts(methods: Mapping[str, Scores], details: Mapping[str, Mapping[str, Any]]) -> list[Chart]:
    """Returns the chart of AP over the threshold of IoU; with scores also those of precision and calibration.

    Args:
      methods: scores by method.
      details: `Scores.details` by method.
    """
    charts = []
    by_threshold = {name: [*scores.ap.items()] for name, scores in methods.items()}
    defined = {name: points for name, points in by_threshold.items() if math.isfinite(points[0][1])}
    if defined:
        text = "; ".join(f"{name} {dict(points)[0.5]:.3f} at 0.5" for name, points in defined.items())
        charts.append(_chart("AP by threshold of IoU", defined, "IoU", "AP", text))
    precision = {
        f"{method}: {name}": points
        for method, scores in methods.items()
        for name, points in scores.precision_recall.items()
        if points
    }
    if precision:
        text = "; ".join(
            f"{name} {points[50][1]:.3f} at a recall of 0.5" for name, points in precision.items()
        )
        charts.append(_chart("Precision and recall at IoU 0.5", precision, "recall", "precision", text))
    calibrated = {name: one["calibration"]["all"] for name, one in details.items() if "calibration" in one}
    reliability = {
        f"{name} (ECE {one.ece:.3f})": [
            (score, right) for score, right in zip(one.score, one.precision, strict=True) if score == score
        ]
        for name, one in calibrated.items()
        if math.isfinite(one.ece)
    }
    if reliability:
        text = "; ".join(reliability)
        reliability = {"a calibrated method": [(0.0, 0.0), (1.0, 1.0)], **reliability}
        charts.append(_chart("Calibration of scores", reliability, "score", "precision at IoU 0.5", text))
    return charts


def _chart(
    name: str, values: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, text: str
) -> Chart:
    first = dict(list(values.items())[:MAX_CURVES])
    return Chart(name, png_uri(curves(first, x=x, y=y)), f"{name}: {text}")
