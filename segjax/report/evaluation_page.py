"""The evaluation report: one self-contained HTML file."""

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

# Wide enough to inspect outlines, small enough that a report of fifty images can be mailed.
IMAGE_WIDTH = 512
CARDS = ("IoU", "AP 0.5", "PQ")


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """A test image with its ground truth, predictions and scores.

    Attributes:
      name: name of the image.
      image: [H, W, C] image, any real dtype.
      truth: ground truth of the same height and width.
      predictions: segmentation by method, in the order of the report.
      scores: score by method, None if undefined. Examples are sorted by the first method's score.
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
      path: path of the HTML file; its folder must exist.
      title: page title.
      class_names: K names, background first.
      metrics: `split`, its name; `methods`, the result of `Scores.compute` by method, the evaluated one
        first, optionally with `reference` for comparison; optionally `seconds`, a mapping.
      examples: test images; shown are the best, the worst, then the others by descending score.
      score_name: name of the score in `Example.scores`.
      curve: training log, one mapping per logged step with `step` and any numbers such as `loss`; each number
        gets a chart.
      stages: the name of one image and, by method, captions and pictures [H, W, 3] uint8 of its intermediate
        stages.
      environment: hardware, versions and config, as a nested mapping of printable values.
      warnings: sentences shown prominently at the top.
      max_examples: maximum number of examples shown; the page says if some are left out.
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
            ("Comparison of methods", comparison(metrics)),
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
    """Renders a template from this package."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.PackageLoader("segjax", "report")
    )
    return environment.get_template(template).render(**values)


def _ordered(examples: Sequence[Example]) -> list[tuple[Example, str]]:
    """Sorts examples: best, worst, the others by descending score, and finally those without score."""

    def rank(example: Example) -> float:
        score = next(iter(example.scores.values()), None)
        return math.inf if score is None else -score

    falling = sorted(examples, key=rank)
    scored = [example for example in falling if rank(example) < math.inf]
    if len(scored) < 2:
        return [(example, "") for example in falling]
    best, worst = scored[0], scored[-1]
    others = [example for example in falling if example not in (best, worst)]
    return [(best, "best"), (worst, "worst"), *((example, "") for example in others)]


def _cards(methods: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns the headline scores of a single method, each with the reference's score in the note."""
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
    """Draws a chart for each logged number, the loss first."""
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
    """Returns captions and data URIs of the image, the truth and every prediction."""
    # Small images are enlarged by an integer factor so that outlines do not hide small instances.
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
    """Returns captions and data URIs of stage pictures, no wider than the example pictures."""
    small: dict[str, list[tuple[str, str]]] = {}
    for method, pictures in stages.items():
        small[method] = []
        for caption, picture in pictures:
            drawn = Image.fromarray(picture)
            drawn.thumbnail((IMAGE_WIDTH, 4 * IMAGE_WIDTH), Image.Resampling.LANCZOS)
            small[method].append((caption, data_uri(np.asarray(drawn))))
    return small


def data_uri(picture: np.ndarray) -> str:
    """Encodes a picture as JPEG, without chroma subsampling, which would blur thin outlines."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flattens a nested mapping to dotted names and formatted values."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            rows.append((f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows
