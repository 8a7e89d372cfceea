"""Measures a method on a split: every method is `image -> Segmentation`, whatever is inside."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from segjax.data.records import Source
from segjax.metrics import Scores
from segjax.segmentation import Method, Segmentation


class Evaluation(NamedTuple):
    """What a method did on a split.

    Attributes:
      metrics: over all images, pooled.
      per_image: of each image by its name.
      predictions: of each image by its name; empty unless they were to be kept.
    """

    metrics: dict[str, Any]
    per_image: dict[str, dict[str, Any]]
    predictions: dict[str, Segmentation]


def evaluate(
    method: Method,
    records: Source,
    class_names: Sequence[str],
    *,
    headline: str | None = None,
    keep_predictions: bool = False,
    description: str | None = None,
) -> Evaluation:
    """Runs a method on every record and measures it against the truth.

    Args:
      method: `image [H, W, C] -> Segmentation`.
      records: the images with their truth.
      class_names: K names, background first.
      headline: the class whose instances the headline numbers are about; the first foreground class if None.
      keep_predictions: whether to return them.
      description: shown at a progress bar; no bar if None.

    Returns:
      The evaluation.
    """
    total = Scores.empty(class_names, headline=headline)
    per_image, predictions = {}, {}
    order = tqdm(
        range(len(records)), desc=description, unit="image", disable=description is None, leave=False
    )
    for index in order:
        record = records[index]
        prediction = method(record.image)
        scores = Scores.of(record.truth, prediction, class_names, headline=headline)
        total = total + scores
        per_image[record.name] = scores.compute()
        if keep_predictions:
            predictions[record.name] = prediction
    return Evaluation(total.compute(), per_image, predictions)
