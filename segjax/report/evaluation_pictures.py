"""The images of an evaluation report: truth and prediction with their errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.data.records import Record
from segjax.evaluation.evaluate import Evaluation
from segjax.metrics.errors import CORRECT, KINDS, kinds_of
from segjax.metrics.overlaps import Overlaps
from segjax.report.overlays import draw_outlines, mark, resized
from segjax.segmentation import Segmentation

# Wide enough to inspect outlines, small enough that the report can be mailed.
IMAGE_WIDTH = 512
MAX_EXAMPLES, MAX_PICTURES = 40, 200
# Colours of true instances and of predictions with an error: vermilion, reddish purple.
MISSED, SPURIOUS = (213, 94, 0), (204, 121, 167)


def choose_images(evaluations: Mapping[str, Evaluation]) -> list[tuple[int, str, str]]:
    """Chooses images by AP 0.5 of the first method: best, worst, then descending; undefined last.

    If there are too many, the best half and the worst half are chosen.

    Returns:
      Index of each image, its name in `per_image`, and "best", "worst" or "".
    """
    if not evaluations:
        return []
    per_image = next(iter(evaluations.values())).per_image
    names, scores = [*per_image], [scores.ap[0.5] for scores in per_image.values()]
    order = sorted(range(len(scores)), key=lambda i: math.inf if math.isnan(scores[i]) else -scores[i])
    num_scored = len(scores) - sum(map(math.isnan, scores))
    count = min(MAX_EXAMPLES, max(2, MAX_PICTURES // (2 + len(evaluations))))
    if len(order) > count:
        scored = order[:num_scored]
        best = scored[: count - count // 2]
        order = best + scored[max(len(best), num_scored - count // 2) :]
        num_scored = len(order)
    badges = [""] * len(order)
    if num_scored >= 2:
        order.insert(1, order.pop(num_scored - 1))
        badges[:2] = "best", "worst"
    return [(index, names[index], badge) for index, badge in zip(order, badges, strict=True)]


def example(record: Record, evaluations: Mapping[str, Evaluation], name: str, badge: str) -> dict[str, Any]:
    """Returns name in `per_image`, badge, scores, errors and captioned pictures of an image.

    The pictures are the image, the truth and the predictions. In the truth, the instances that the first
    method did not find are marked; in each prediction, its instances with an error.
    """
    # Small images are enlarged by an integer factor so that outlines do not hide small instances.
    width = record.image.shape[1]
    width = min(IMAGE_WIDTH, width * max(1, IMAGE_WIDTH // (2 * width)))
    scores = {method: one.per_image[name].ap[0.5] for method, one in evaluations.items()}
    sides, texts = [record.truth], {}
    for index, (method, one) in enumerate(evaluations.items()):
        truth, prediction, texts[method] = _flagged(record.truth, one.predict(record))
        sides = [truth if index == 0 else sides[0], *sides[1:], prediction]
    picture, small = resized(record.image, sides, width)
    colours = [MISSED, *[SPURIOUS] * len(evaluations)]
    drawn = [
        mark(draw_outlines(picture, one, thickness=2), one.labels, one.scores == 0, colour)
        for one, colour in zip(small, colours, strict=True)
    ]
    captions = ["truth", *(f"by {method}" for method in evaluations)]
    return {
        "name": name,
        "badge": badge,
        "scores": scores,
        "errors": texts,
        "pictures": [("image", picture), *zip(captions, drawn, strict=True)],
    }


def _flagged(truth: Segmentation, prediction: Segmentation) -> tuple[Segmentation, Segmentation, str]:
    """Returns both, where an error gives an instance the score 0, else 1; and the errors in words."""
    overlaps = Overlaps.of(truth, prediction)
    kinds = kinds_of(overlaps)
    flagged = []
    for side, objects, kind in (
        (truth, overlaps.truth, kinds.truth),
        (prediction, overlaps.prediction, kinds.prediction),
    ):
        right = np.ones(side.num_instances, np.float32)
        right[objects.ids[kind != CORRECT] - 1] = 0
        flagged.append(dataclasses.replace(side, scores=right))
    counts = {
        name: max(int((kinds.truth == kind).sum()), int((kinds.prediction == kind).sum()))
        for kind, name in enumerate(KINDS)
        if kind != CORRECT
    }
    text = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    return flagged[0], flagged[1], text or "no error"
