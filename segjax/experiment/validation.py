"""Validates a network during its training, with the method that prediction will use."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from segjax.data.records import Source
from segjax.evaluation.evaluate import evaluate
from segjax.inference.predictor import Predictor
from segjax.metrics.scores import Scores
from segjax.train.processes import spread
from segjax.typing import Params

# Consecutive validations without a correct pixel or an instance of a class, after which a warning is logged.
COLLAPSED = 2
FOREGROUND = "<foreground>"
CAUSES = (
    "likely causes are a learning rate that is too high, class weights that are too unequal, images in the"
    " training split that hardly show the class, annotations with other classes, or a min_area that is too"
    " large"
)


class Validation:
    """Validates parameters on the validation split; warns of classes that a network no longer predicts.

    Each of several processes segments a part of the images, and all have the same scores.

    Args:
      predictor: the method, whose parameters are replaced.
      source: the validation split.
      headline: class of the top-level instance scores; the first foreground class if None.
    """

    def __init__(self, predictor: Predictor, source: Source, headline: str | None) -> None:
        self._predictor, self._source, self._headline = predictor, source, headline
        self._missed: Counter[str] = Counter()

    def __call__(self, params: Params, check: Callable[[], None]) -> dict[str, Any]:
        """Returns the `validation_metrics` of parameters on one device; calls `check` before each image."""
        self._predictor.params = params
        scores = evaluate(
            self._predictor,
            self._source,
            headline=self._headline,
            spread=functools.partial(spread, purpose="the validation", bar=False, check=check),
        ).scores
        self._warn_of_collapse(scores)
        return validation_metrics(scores)

    def _warn_of_collapse(self, scores: Scores) -> None:
        """Warns of classes that are missing for some validations."""
        # NaN is the IoU of a class that the split does not have.
        missed = {name: value == 0 for name, value in scores.iou.items()}
        is_present = any(not np.isnan(scores.iou[name]) for name in scores.per_class)
        missed[FOREGROUND] = is_present and scores.all.n_pred == 0
        for name, is_missed in missed.items():
            self._missed[name] = self._missed[name] + 1 if is_missed else 0
        collapsed = [name for name in missed if self._missed[name] >= COLLAPSED]
        for name in [FOREGROUND] if FOREGROUND in collapsed else collapsed:
            what = f"No pixel of class {name!r} was right"
            if name == FOREGROUND:
                what = "No instance of any class was predicted"
            elif name in scores.per_class and scores.per_class[name].n_pred == 0:
                what = f"No instance of class {name!r} was predicted"
            logging.warning("%s in the last %d validations: %s", what, self._missed[name], CAUSES)


def validation_metrics(scores: Scores) -> dict[str, Any]:
    """Returns the logged metrics, and the "score" that selects the best checkpoint.

    The score is the mean IoU of the foreground classes plus AP at 0.5; an undefined value counts as 0.
    """
    metrics = scores.as_dict()
    foreground = [metrics["iou"][name] or 0.0 for name in scores.per_class]
    score = float(np.mean(foreground)) + (metrics["ap"]["0.5"] or 0.0)
    return {"score": score, **{name: metrics[name] for name in ("iou", "ap", "pq", "aji")}}
