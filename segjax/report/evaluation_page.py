"""The report of an evaluation: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from segjax.report import overlays
from segjax.report.curves import line_chart
from segjax.report.table import OVERALL, comparison, format_score, per_class
from segjax.segmentation import Segmentation

# Wide enough to judge an outline, small enough that a report of fifty images is still one file to mail.
IMAGE_WIDTH = 512
CARDS = ("IoU", "AP 0.5", "PQ")


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One test image and what became of it.

    Attributes:
      name: of the image.
      image: [H, W, C] any real type.
      truth: of the same H and W.
      predictions: by method, in the order of the report.
      scores: by method; None where there was nothing to judge. The first method's decides the order.
    """

    name: str
    image: np.ndarray
    truth: Segmentation
    predictions: Mapping[str, Segmentation]
    scores: Mapping[str, float | None]


def write_report(
    path: str | Path,
    *,
    title: str,
    class_names: Sequence[str],
    metrics: Mapping[str, Any],
    examples: Sequence[Example],
    score_name: str = "AP 0.5",
    curve: Sequence[Mapping[str, float]] = (),
    stages: tuple[str, Mapping[str, Sequence[tuple[str, np.ndarray]]]] | None = None,
    environment: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    max_examples: int = 40,
) -> None:
    """Writes the report.

    Args:
      path: of the HTML file; its folder must exist.
      title: of the page.
      class_names: K names, background first.
      metrics: `split`, a name; `methods`, what `Scores.compute` returns for each method, the one the report
        is about first, and `reference` among them for comparison; optionally `seconds`, a mapping.
      examples: shown are the best, then the worst, then the others by falling score.
      score_name: what `Example.scores` are.
      curve: of the training, one mapping for each logged step: `step`, and any of `loss` and other numbers;
        each number gets a chart.
      stages: the name of one image and, by method, captions and pictures [H, W, 3] uint8 of how the method
        arrives at its result.
      environment: hardware, versions, config: a mapping of whatever prints, nested as one likes.
      warnings: sentences that the reader must not miss.
      max_examples: of more, only the first of that order are shown, and the page says so.
    """
    ordered = _ordered(examples)
    shown = ordered[:max_examples]
    page = render(
        "report.html",
        title=title,
        split=metrics["split"],
        headline=next((scores["instances"] for scores in metrics["methods"].values()), ""),
        cards=_cards(metrics["methods"]),
        tables=[
            ("Methods beside each other", comparison(metrics)),
            ("By class", per_class(metrics)),
        ],
        digits=format_score,
        charts=_charts(curve),
        legend=[
            (name, "#{:02x}{:02x}{:02x}".format(*overlays.colour_of(index)))
            for index, name in enumerate(class_names[1:], start=1)
        ],
        examples=[(example, place, _pictures(example, class_names)) for example, place in shown],
        staged=stages[0] if stages else "",
        stages=_stage_pictures(stages[1] if stages else {}),
        num_examples=len(examples),
        score_name=score_name,
        environment=_flat({"seconds": metrics.get("seconds") or {}, **(environment or {})}),
        warnings=list(warnings),
    )
    Path(path).write_text(page, encoding="utf-8")


def render(template: str, **values: Any) -> str:
    """Fills one of the templates beside this file."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.PackageLoader("segjax", "report")
    )
    return environment.get_template(template).render(**values)


def _ordered(examples: Sequence[Example]) -> list[tuple[Example, str]]:
    """The best, the worst, then the others by falling score; last what could not be judged."""

    def rank(example: Example) -> float:
        score = next(iter(example.scores.values()), None)
        return math.inf if score is None else -score

    falling = sorted(examples, key=rank)
    judged = [example for example in falling if rank(example) < math.inf]
    if len(judged) < 2:
        return [(example, "") for example in falling]
    best, worst = judged[0], judged[-1]
    others = [example for example in falling if example not in (best, worst)]
    return [(best, "best"), (worst, "worst"), *((example, "") for example in others)]


def _cards(methods: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """The large numbers of a method, each with what the reference has; none of several methods."""
    if not methods or len(methods) > 2:
        return []
    first = next(iter(methods))
    cards = []
    for name in CARDS:
        value = OVERALL[name](methods[first])
        card = {"name": name, "value": format_score(value), "note": ""}
        if first != "reference" and "reference" in methods:
            other = OVERALL[name](methods["reference"])
            card["note"] = f"reference {format_score(other)}"
            if value is not None and other is not None:
                card["note"] += f" ({value - other:+.3f})"
        cards.append(card)
    return cards


def _charts(curve: Sequence[Mapping[str, float]]) -> list[tuple[str, Markup]]:
    """A chart for each number that was logged, the loss first."""
    names = dict.fromkeys(name for entry in curve for name in entry if name != "step")
    charts = []
    for name in sorted(names, key=lambda name: name != "loss"):
        points = [
            (float(entry["step"]), float(entry[name])) for entry in curve if entry.get(name) is not None
        ]
        svg = line_chart(points, name=name)
        if svg:
            charts.append((name, Markup(svg)))  # line_chart escapes the name
    return charts


def _pictures(example: Example, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Captions and data URIs of image, truth and every prediction."""
    # Small images grow by whole steps, so that an outline is not as thick as what it surrounds.
    width = example.image.shape[1]
    width = min(IMAGE_WIDTH, width * max(1, IMAGE_WIDTH // (2 * width)))
    named = {"truth": example.truth, **{f"by {name}": made for name, made in example.predictions.items()}}
    picture, segmentations = overlays.resized(example.image, list(named.values()), width)
    drawn = [
        overlays.draw_outlines(picture, segmentation, class_names, thickness=2)
        for segmentation in segmentations
    ]
    return [("image", data_uri(picture)), *zip(named, map(data_uri, drawn), strict=True)]


def _stage_pictures(
    stages: Mapping[str, Sequence[tuple[str, np.ndarray]]],
) -> dict[str, list[tuple[str, str]]]:
    """Captions and data URIs, every picture at most as wide as those of the examples."""
    small: dict[str, list[tuple[str, str]]] = {}
    for method, pictures in stages.items():
        small[method] = []
        for caption, picture in pictures:
            drawn = Image.fromarray(picture)
            drawn.thumbnail((IMAGE_WIDTH, 4 * IMAGE_WIDTH), Image.Resampling.LANCZOS)
            small[method].append((caption, data_uri(np.asarray(drawn))))
    return small


def data_uri(picture: np.ndarray) -> str:
    """JPEG without subsampling of colours, which would wash thin outlines out."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and printed values of a nested mapping."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            rows.append((f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows
