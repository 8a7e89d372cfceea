"""The evaluation report: the scores as JSON, and one self-contained HTML file."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.records import Source
from segjax.evaluation.evaluate import Evaluation
from segjax.evaluation.uncertainty import Uncertainty
from segjax.files import write_json, write_text
from segjax.metrics.counting import CountInterval
from segjax.metrics.scores import Scores, jsonable
from segjax.report.evaluation_charts import score_charts, training_charts
from segjax.report.evaluation_pictures import MISSED, SPURIOUS, choose_images, example
from segjax.report.evaluation_tables import (
    Details,
    boundaries,
    by_group,
    by_size,
    coco,
    confusion,
    errors,
    images,
)
from segjax.report.page import class_legend, css, jpeg_uri, render
from segjax.report.table import OVERALL, Cell, Table, comparison, differences, format_score, per_class

# Tables that are shown even if they have no rows.
ALWAYS = ("Comparison of methods", "By class")
QUARTERS = ("smallest", "second", "third", "largest")
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
        first.
      environment: hardware and versions.
      config: config of the run.
      baseline: the method that the others are compared with; None for the first one.
      split_facts: the digest of the split, if there is one.
      warnings: sentences shown prominently at the top.
      train_seconds: duration of the training.
      step: training step of the parameters.
      curve: training log, one mapping per logged step, with `step` and any numbers such as `loss`; each
        number gets a chart.
      proposals: scores of the region proposals.
      boxes: scores of the boxes of a detector, before they become a label image, see `detection_scores`.
      count_interval: interval of the number of instances, fitted to validation images by the first method.
      stages: name of one image, and pictures of its intermediate stages.
    """

    data_set: str
    split: str
    source: Source
    evaluations: Mapping[str, Evaluation]
    environment: Mapping[str, Any]
    config: Mapping[str, Any]
    baseline: str | None = None
    split_facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warnings: Sequence[str] = ()
    train_seconds: float | None = None
    step: int | None = None
    curve: Sequence[Mapping[str, float]] = ()
    proposals: Mapping[str, float | None] | None = None
    boxes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    count_interval: CountInterval | None = None
    stages: tuple[str, Stages] | None = None

    @property
    def scores(self) -> dict[str, Scores]:
        """The pooled scores of each method."""
        return {name: evaluation.scores for name, evaluation in self.evaluations.items()}

    @functools.cached_property
    def uncertainty(self) -> Uncertainty:
        """Intervals of the scores, and differences from the baseline."""
        return Uncertainty.of(self.scores, self.baseline or next(iter(self.evaluations), None))

    @property
    def count_coverage(self) -> float:
        """The fraction of the images whose number of instances is in the interval of the first method."""
        if self.count_interval is None:
            return math.nan
        images = next(iter(self.scores.values())).statistics.images
        counts = [[one.all.num_true for one in images], [one.all.num_predicted for one in images]]
        return self.count_interval.coverage(*counts)

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
        optional: dict[str, Any] = {} if self.proposals is None else {"proposals": self.proposals}
        optional |= {"boxes": jsonable(self.boxes)} if self.boxes else {}
        if self.count_interval is not None:
            fitted = {**vars(self.count_interval), "coverage": self.count_coverage}
            optional["count_interval"] = jsonable(fitted)
        return {
            "split": self.split,
            "methods": {name: scores.as_dict() for name, scores in self.scores.items()},
            "uncertainty": self.uncertainty.as_dict(),
            "seconds": self.seconds,
            "step": self.step,
            "images": len(self.source),
            **self.split_facts,
            "per_image": {
                name: {image: scores.as_dict() for image, scores in evaluation.per_image.items()}
                for name, evaluation in self.evaluations.items()
            },
            "environment": self.environment,
            **optional,
        }


def write_report(folder: Path, report: EvaluationReport) -> None:
    """Writes `metrics.json` and `index.html`."""
    write_json(folder / "metrics.json", report.as_dict())
    examples = choose_images(report.evaluations)
    environment = {"seconds": report.seconds, "proposals": report.proposals, **report.environment}
    details = {name: scores.details for name, scores in report.scores.items()}
    page = render(
        "report.html",
        report=report,
        title=f"{report.data_set}: {report.split} split" if report.split else report.data_set,
        cards=_cards(report),
        tables=_tables(report, details),
        confusions={name: confusion(scores) for name, scores in report.scores.items()},
        errors=_errors(report, details),
        score_charts=score_charts(report.scores, details),
        charts=training_charts(report.curve),
        legend=class_legend(report.source.class_names),
        marks=[("true instance with an error", css(MISSED)), ("prediction with an error", css(SPURIOUS))],
        examples=[
            example(report.source[index], report.evaluations, name, badge) for index, name, badge in examples
        ],
        images=images(report.evaluations),
        num_examples=len(report.source),
        environment=_flat({**environment, **report.split_facts, "config": report.config}),
        format_score=format_score,
        jpeg_uri=jpeg_uri,
    )
    write_text(folder / "index.html", page)


def _tables(report: EvaluationReport, details: Mapping[str, Details]) -> list[tuple[str, Table]]:
    """Returns the tables that have a row, with their captions."""
    scores = report.scores
    tables = [
        ("Comparison of methods", comparison(scores, report.uncertainty)),
        (f"Differences from {report.uncertainty.baseline}", differences(report.uncertainty)),
        ("By class", per_class(scores)),
        ("By group", by_group(scores)),
        ("Recall by size", by_size(scores)),
        ("Boundaries", boundaries(details)),
        ("COCO", coco(_with_boxes(report, details))),
    ]
    return [(caption, table) for caption, table in tables if table.rows or caption in ALWAYS]


def _with_boxes(report: EvaluationReport, details: Mapping[str, Details]) -> dict[str, Details]:
    """Adds the scores of the boxes of a detector as if they were another method."""
    return {**details, "boxes of the detector": report.boxes} if report.boxes else dict(details)


def _errors(report: EvaluationReport, details: Mapping[str, Details]) -> list[tuple[str, Table]]:
    """Returns the tables of errors: for all instances, for each class and for each quarter of the sizes."""
    names = report.source.class_names[1:]
    among = {"all": "all instances"} | ({name: name for name in names} if len(names) > 1 else {})
    among |= {f"q{index}": f"{text} quarter of the sizes" for index, text in enumerate(QUARTERS, start=1)}
    tables = {text: errors(_with_boxes(report, details), among=key) for key, text in among.items()}
    return [(text, table) for text, table in tables.items() if table.rows]


def _cards(report: EvaluationReport) -> list[dict[str, str]]:
    """Returns the headline scores of a single method, each with interval and baseline in the note."""
    methods, uncertainty = report.scores, report.uncertainty
    if not methods or len(methods) > 2 or uncertainty.baseline not in (None, "reference"):
        return []
    first = next(name for name in methods if name != uncertainty.baseline)
    cards = []
    for name in CARDS:
        estimate = uncertainty.scores[first].get(name)
        value = OVERALL[name](methods[first])
        notes = [] if estimate is None else [Cell(value, estimate.interval).interval_text]
        if uncertainty.baseline is not None:
            reference = OVERALL[name](methods[uncertainty.baseline])
            difference = value - reference
            notes.append(
                f"{uncertainty.baseline} {format_score(reference)}"
                + ("" if math.isnan(difference) else f" ({difference:+.3f})")
            )
        cards.append({"name": name, "value": format_score(value), "note": " ".join(filter(None, notes))})
    return cards


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flattens a nested mapping to dotted names and formatted values."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            rows.append((f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows
