"""The evaluation report: the scores as JSON, and one self-contained HTML file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.records import Source
from segjax.evaluation.evaluate import Evaluation
from segjax.files import write_json, write_text
from segjax.metrics.scores import Scores
from segjax.report.charts import line_chart
from segjax.report.overlays import draw_outlines, resized
from segjax.report.page import class_legend, jpeg_uri, png_uri, render
from segjax.report.table import OVERALL, comparison, format_score, per_class

# Wide enough to inspect outlines, small enough that the report can be mailed.
IMAGE_WIDTH = 512
MAX_EXAMPLES = 40
CARDS = ("IoU", "AP 0.5", "PQ")

# Captions and pictures [H, W, 3] uint8 of the intermediate stages of each method.
Stages = Mapping[str, Sequence[tuple[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationReport:
    """Results of methods on a split, with environment, config and training log.

    Attributes:
      data_set: name of the data set.
      split: name of the split.
      source: the images with their truth.
      evaluations: evaluation of each method, by its name, with predictions; the most important method
        first. One may be named "reference": the others are compared with it.
      environment: hardware and versions.
      config: config of the run.
      split_facts: the digest of the split, if there is one.
      warnings: sentences shown prominently at the top.
      train_seconds: duration of the training.
      step: training step of the parameters.
      curve: training log, one mapping per logged step, with `step` and any numbers such as `loss`; each
        number gets a chart.
      proposals: scores of the region proposals.
      stages: name of one image, and pictures of its intermediate stages.
    """

    data_set: str
    split: str
    source: Source
    evaluations: Mapping[str, Evaluation]
    environment: Mapping[str, Any]
    config: Mapping[str, Any]
    split_facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warnings: Sequence[str] = ()
    train_seconds: float | None = None
    step: int | None = None
    curve: Sequence[Mapping[str, float]] = ()
    proposals: Mapping[str, float | None] | None = None
    stages: tuple[str, Stages] | None = None

    @property
    def scores(self) -> dict[str, Scores]:
        """The pooled scores of each method."""
        return {name: evaluation.scores for name, evaluation in self.evaluations.items()}

    @property
    def seconds(self) -> dict[str, Any]:
        """The durations of training and evaluation."""
        by_method = {name: evaluation.seconds for name, evaluation in self.evaluations.items()}
        return {
            "train": self.train_seconds,
            "evaluate": next(iter(by_method.values()), None),
            "by_method": by_method,
        }

    def as_dict(self) -> dict[str, Any]:
        """Returns the content of `metrics.json`."""
        return {
            "split": self.split,
            "methods": {name: scores.as_dict() for name, scores in self.scores.items()},
            "seconds": self.seconds,
            "step": self.step,
            "images": len(self.source),
            **self.split_facts,
            "per_image": {
                name: {image: scores.as_dict() for image, scores in evaluation.per_image.items()}
                for name, evaluation in self.evaluations.items()
            },
            "environment": self.environment,
            **({} if self.proposals is None else {"proposals": self.proposals}),
        }


def write_report(folder: Path, report: EvaluationReport) -> None:
    """Writes `metrics.json` and `index.html`."""
    write_json(folder / "metrics.json", report.as_dict())
    scores, examples = report.scores, _ordered_examples(report.evaluations)
    environment = {"seconds": report.seconds, "proposals": report.proposals, **report.environment}
    page = render(
        "report.html",
        report=report,
        title=f"{report.data_set}: {report.split} split",
        cards=_cards(scores),
        tables=[("Comparison of methods", comparison(scores)), ("By class", per_class(scores))],
        charts=_charts(report.curve),
        legend=class_legend(report.source.class_names),
        examples=[_example(report, index, badge) for index, badge in examples[:MAX_EXAMPLES]],
        num_examples=len(examples),
        environment=_flat({**environment, **report.split_facts, "config": report.config}),
        format_score=format_score,
        jpeg_uri=jpeg_uri,
    )
    write_text(folder / "index.html", page)


def _ordered_examples(evaluations: Mapping[str, Evaluation]) -> list[tuple[int, str]]:
    """Sorts images by AP 0.5 of the first method: best, worst, then descending; undefined last.

    Returns:
      Index of each image, and "best", "worst" or "".
    """
    if not evaluations:
        return []
    scores = [scores.ap[0.5] for scores in next(iter(evaluations.values())).per_image.values()]
    order = sorted(range(len(scores)), key=lambda i: math.inf if math.isnan(scores[i]) else -scores[i])
    num_scored = len(scores) - sum(map(math.isnan, scores))
    if num_scored < 2:
        return [(index, "") for index in order]
    order.insert(1, order.pop(num_scored - 1))
    return [*zip(order, ["best", "worst", *[""] * len(order)], strict=False)]


def _example(report: EvaluationReport, index: int, badge: str) -> dict[str, Any]:
    """Returns name, badge, scores and captioned pictures of an image: itself, the truth, the predictions."""
    record = report.source[index]
    # Small images are enlarged by an integer factor so that outlines do not hide small instances.
    width = record.image.shape[1]
    width = min(IMAGE_WIDTH, width * max(1, IMAGE_WIDTH // (2 * width)))
    named, scores = {"truth": record.truth}, {}
    for method, evaluation in report.evaluations.items():
        named[f"by {method}"] = evaluation.predictions[record.name]
        scores[method] = evaluation.per_image[record.name].ap[0.5]
    picture, segmentations = resized(record.image, list(named.values()), width)
    drawn = [draw_outlines(picture, segmentation, thickness=2) for segmentation in segmentations]
    pictures = [("image", picture), *zip(named, drawn, strict=True)]
    return {"name": record.name, "badge": badge, "scores": scores, "pictures": pictures}


def _cards(methods: Mapping[str, Scores]) -> list[dict[str, str]]:
    """Returns the headline scores of a single method, each with the reference's score in the note."""
    if not methods or len(methods) > 2:
        return []
    first = next(iter(methods))
    cards = []
    for name in CARDS:
        value = OVERALL[name](methods[first])
        note = ""
        if first != "reference" and "reference" in methods:
            reference = OVERALL[name](methods["reference"])
            difference = value - reference
            note = f"reference {format_score(reference)}"
            note += "" if math.isnan(difference) else f" ({difference:+.3f})"
        cards.append({"name": name, "value": format_score(value), "note": note})
    return cards


def _charts(curve: Sequence[Mapping[str, float]]) -> list[tuple[str, str, str]]:
    """Returns name, data URI and description of a chart for each logged number, the loss first."""
    names = dict.fromkeys(name for entry in curve for name in entry if name != "step")
    charts = []
    for name in sorted(names, key=lambda name: name != "loss"):
        points = [
            (float(entry["step"]), float(entry[name])) for entry in curve if entry.get(name) is not None
        ]
        if chart := line_chart(points):
            last = next(value for _, value in reversed(points) if math.isfinite(value))
            charts.append((name, png_uri(chart), f"{name} at {len(points)} steps, last {last:.4g}"))
    return charts


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flattens a nested mapping to dotted names and formatted values."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            rows.append((f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows
