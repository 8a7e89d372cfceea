"""Detects the objects of images of any size, and segments them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from absl import logging

from segjax.inference.outlines import classical_outlines
from segjax.inference.replicas import Replicas
from segjax.inference.settings import PredictConfig
from segjax.inference.tile_merging import predict_and_merge
from segjax.inference.tiling import Windows
from segjax.segmentation import Segmentation
from segjax.tasks.detection import DetectionTask
from segjax.typing import Outputs, Params


@dataclasses.dataclass(eq=False)
class ObjectPredictor:
    """Merges the detections of a network over windows; the fields are those of `create_predictor`.

    Without a mask head, `detect` returns the outline of the task's config, or those of `outlines`. The
    network is compiled once for each of a few window sizes.
    """

    task: DetectionTask
    params: Params
    _: dataclasses.KW_ONLY
    prepare: Callable[[np.ndarray], np.ndarray]
    config: PredictConfig = PredictConfig()
    proposer: Callable[[np.ndarray], np.ndarray] | None = None
    max_proposals: int = 1000
    outlines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._predict = jax.jit(self.task.predict)
        self._propose = jax.jit(self.task.propose)
        self._replicas = Replicas()
        self._windows = Windows(self.config.tile, self.config.overlap, stride=self.task.stride)

    def __call__(self, image: np.ndarray) -> Segmentation:
        """Segments an image [H, W, C] as it was read."""
        return self.segment(self.detect(image))

    def segment(self, outputs: Outputs) -> Segmentation:
        """Makes a segmentation from the result of `detect`."""
        return self.task.segment(outputs)

    def propose(self, image: np.ndarray) -> np.ndarray:
        """Returns the region proposals [P, 4] float32 of an image [H, W, C] as it was read, in its pixels."""
        if self.proposer is not None:
            return self.proposer(image)
        prepared, params = self.prepare(image), self._replicas.here(self.params)
        merged = predict_and_merge(
            lambda windows, size, _: self._propose(params, windows, size),
            prepared,
            self._windows,
        )
        order = np.argsort(-merged["scores"], kind="stable")
        return merged["boxes"][order] * _to_image(image, prepared)

    def detect(self, image: np.ndarray) -> Outputs:
        """Detects the objects of an image [H, W, C] as it was read.

        Returns:
          For N objects, best first: "boxes" [N, 4] in pixels of the image, "classes" [N], "scores" [N],
          "valid" [N], "masks" [N, M, M] inside the boxes if the network predicts masks, else [N] cutouts by
          kind of outline, see `classical_outlines`; and "shape", the image's `(H, W)`.
        """
        prepared, params = self.prepare(image), self._replicas.here(self.params)
        to_image = _to_image(image, prepared)
        merged = predict_and_merge(
            lambda windows, size, proposals: self._predict(params, windows, size, proposals),
            prepared,
            self._windows,
            proposals=None if self.proposer is None else self.proposer(image) / to_image,
            max_proposals=self.max_proposals,
        )
        if dropped := int(merged.pop("dropped")):
            logging.warning(
                "dropped %d detections beyond max_detections: raise config.task.detect.max_detections and"
                " config.task.detect.candidates, or make config.predict.tile smaller",
                dropped,
            )
        order = np.argsort(-merged["scores"], kind="stable")
        outputs = {name: values[order] for name, values in merged.items()}
        outputs["boxes"] = outputs["boxes"] * to_image
        if "masks" not in outputs:
            for kind in self.outlines or (self.task.config.outline,):
                cutouts = classical_outlines(image, outputs["boxes"], kind)
                outputs[kind] = np.array([*cutouts, None], object)[:-1]
        return outputs | {"valid": np.ones(len(order), bool), "shape": np.array(image.shape[:2])}


def _to_image(image: np.ndarray, prepared: np.ndarray) -> np.ndarray:
    """Returns [4] float32 factors from boxes in pixels of the network's input to those of the image."""
    ratios = np.array(image.shape[1::-1]) / np.array(prepared.shape[1::-1])  # of width and height
    return np.tile(ratios, 2).astype(np.float32)
