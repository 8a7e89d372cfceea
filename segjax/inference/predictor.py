"""A trained network as a method: `image -> Segmentation`, for images of any size."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from PIL import Image

from segjax.errors import InputError
from segjax.inference.tile_merging import predict_and_merge
from segjax.inference.tiling import predict_tiled
from segjax.segmentation import Segmentation
from segjax.tasks import Task
from segjax.typing import Array, Outputs, Params


class Predictor:
    """Applies a task's parameters to images; compiled once for each of a handful of window sizes.

    Attributes:
      params: may be replaced between calls, by others of the same shapes, without recompilation.
    """

    def __init__(
        self,
        task: Task,
        params: Params,
        *,
        prepare: Callable[[np.ndarray], np.ndarray],
        tile: int = 512,
        overlap: int = 64,
        flips: bool = False,
        propose: Callable[[np.ndarray], np.ndarray] | None = None,
        max_proposals: int = 1000,
    ) -> None:
        """Makes the method.

        Args:
          task: whose `predict` and `segment` to use.
          params: of its network.
          prepare: `image as read [H, W, C] -> network input [h, w, C] float32`, the same as in training.
          tile: the largest window, in pixels of the network's input.
          overlap: of windows, likewise.
          flips: whether to average over the image and its three mirror images; of maps only.
          propose: `image as read -> boxes [P, 4]` in its pixels, for a task that needs proposals.
          max_proposals: of a window.

        Raises:
          InputError: if objects should be averaged over mirror images.
        """
        if flips and not task.maps:
            raise InputError(
                "config.predict.flips averages maps, but this network finds objects: set it to False"
            )
        self.params = params
        self._prepare, self._tile, self._overlap = prepare, tile, overlap
        self._task = task
        self._given, self._max_proposals = propose, max_proposals
        self._predict = jax.jit(_flipped(task.predict) if flips else task.predict)
        self._propose = None if task.propose is None else jax.jit(task.propose)

    def __call__(self, image: np.ndarray) -> Segmentation:
        """Segments an image `[H, W, C]` as it was read."""
        return self.segment(self.outputs(image))

    @property
    def finds_objects(self) -> bool:
        """Whether `outputs` are lists of objects."""
        return not self._task.maps

    def segment(self, outputs: Outputs) -> Segmentation:
        """What `outputs` of an image mean."""
        return self._task.segment(outputs)

    @property
    def proposes(self) -> bool:
        """Whether it looks for objects in boxes."""
        return self._given is not None or self._propose is not None

    def propose(self, image: np.ndarray) -> np.ndarray:
        """The boxes [P, 4] in which an image `[H, W, C]` is looked at for objects, float32, in its pixels.

        Raises:
          ValueError: if every pixel is looked at, see `proposes`.
        """
        if self._given is not None:
            return self._given(image)
        if self._propose is None:
            raise ValueError("this method looks at every pixel")
        propose = self._propose
        prepared = self._prepare(image)
        found = predict_and_merge(
            lambda windows, size, _: propose(self.params, windows, size),
            prepared,
            tile=self._tile,
            overlap=self._overlap,
        )
        best = np.argsort(-found["scores"], kind="stable")
        return found["boxes"][best] * _to_image(image, prepared)

    def outputs(self, image: np.ndarray) -> Outputs:
        """The outputs of the network at the image's own resolution.

        Args:
          image: [H, W, C] as it was read.

        Returns:
          Maps [H, W, ...] float32; or for N objects, best first, "boxes" [N, 4] in pixels of the image,
          "classes" [N], "scores" [N], "masks" [N, M, M] inside the boxes if the network draws them, and
          "shape", the image's `(H, W)`.
        """
        return self._maps(image) if self._task.maps else self._objects(image)

    def _objects(self, image: np.ndarray) -> Outputs:
        prepared = self._prepare(image)
        to_image = _to_image(image, prepared)
        proposals = None if self._given is None else self._given(image) / to_image
        found = predict_and_merge(
            lambda windows, size, given: self._predict(self.params, windows, size, given),
            prepared,
            tile=self._tile,
            overlap=self._overlap,
            proposals=proposals,
            max_proposals=self._max_proposals,
        )
        if dropped := int(found.pop("dropped")):
            logging.warning(
                "%d objects found no place: raise config.task.max_detections and config.task.candidates, or"
                " make config.predict.tile smaller",
                dropped,
            )
        order = np.argsort(-found["scores"], kind="stable")
        outputs = {name: values[order] for name, values in found.items()}
        outputs["boxes"] = outputs["boxes"] * to_image
        outputs["valid"] = np.ones(len(order), bool)
        return outputs | {"shape": np.array(image.shape[:2])}

    def _maps(self, image: np.ndarray) -> Outputs:
        found = predict_tiled(
            lambda windows: self._predict(self.params, windows),
            self._prepare(image),
            tile=self._tile,
            overlap=self._overlap,
        )
        return {name: _resize(np.asarray(values), image.shape[:2]) for name, values in found.items()}


def _to_image(image: np.ndarray, prepared: np.ndarray) -> np.ndarray:
    """What boxes in pixels of the network's input are multiplied by, [4] float32."""
    ratios = np.array(image.shape[1::-1]) / np.array(prepared.shape[1::-1])  # of width and height
    return np.tile(ratios, 2).astype(np.float32)


def _flipped(predict: Callable[[Params, Array], Outputs]) -> Callable[[Params, Array], Outputs]:
    """The mean of the predictions for an image and its mirror images."""
    flips: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))

    def mean(params: Params, images: Array) -> Outputs:
        mirrored = jnp.concatenate([jnp.flip(images, axes) for axes in flips])
        outputs = predict(params, mirrored)

        def back(values: Array) -> Array:
            parts = jnp.split(values, len(flips))
            return jnp.stack([jnp.flip(part, axes) for part, axes in zip(parts, flips, strict=True)]).mean(0)

        return {name: back(values) for name, values in outputs.items()}

    return mean


def _resize(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear, [h, w, ...] to [H, W, ...]."""
    if values.shape[:2] == shape:
        return values
    maps = values.reshape(*values.shape[:2], -1)
    size = (shape[1], shape[0])
    resized = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(maps[..., index])).resize(size, Image.Resampling.BILINEAR)
        )
        for index in range(maps.shape[-1])
    ]
    return np.stack(resized, axis=-1).reshape(*shape, *values.shape[2:])
