"""A trained network as a method: `image -> Segmentation`, for images of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from segjax.errors import InputError
from segjax.inference.dense import DensePredictor
from segjax.inference.objects import ObjectPredictor
from segjax.inference.settings import PredictConfig
from segjax.segmentation import Segmentation
from segjax.tasks.base import Task
from segjax.tasks.detection import DetectionTask
from segjax.typing import Outputs, Params

# `params` of a predictor can be replaced by others of the same shapes without recompilation.
Predictor = DensePredictor | ObjectPredictor


@runtime_checkable
class Detector(Protocol):
    """A method that first detects objects with possibly overlapping masks, then makes a label map of them."""

    def propose(self, image: np.ndarray) -> np.ndarray:
        """Returns the region proposals [P, 4] of an image [H, W, C] as it was read, in its pixels."""

    def detect(self, image: np.ndarray) -> Outputs:
        """Returns the objects of an image, see `ObjectPredictor.detect`."""

    def segment(self, outputs: Outputs) -> Segmentation:
        """Makes a segmentation from the result of `detect`."""


def create_predictor(
    task: Task,
    params: Params,
    *,
    prepare: Callable[[np.ndarray], np.ndarray],
    config: PredictConfig = PredictConfig(),
    propose: Callable[[np.ndarray], np.ndarray] | None = None,
    max_proposals: int = 1000,
) -> Predictor:
    """Makes the prediction method of a trained network; for a detection network it is also a `Detector`.

    Args:
      task: its `predict` and `segment` are used.
      params: parameters of the network.
      prepare: `image as read [H, W, C] -> network input [h, w, C] float32`, the same as in training.
      config: the settings.
      propose: `image as read -> boxes [P, 4]` in its pixels, for a detector without an RPN.
      max_proposals: maximum per window.

    Raises:
      InputError: if `flips` or a diameter is set for a detector.
    """
    if not isinstance(task, DetectionTask):
        return DensePredictor(task, params, prepare=prepare, config=config)
    if config.flips:
        raise InputError(
            "flips=True averages maps, but this network detects objects: set it to False", field="flips"
        )
    if config.trained_diameter is not None:
        raise InputError(
            "data.diameter is for networks with maps: leave it empty for a detector", field="diameter"
        )
    return ObjectPredictor(
        task, params, prepare=prepare, config=config, proposer=propose, max_proposals=max_proposals
    )
