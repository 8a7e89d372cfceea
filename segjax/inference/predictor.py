"""A trained network as a method: `image -> Segmentation`, for images of any size."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax.inference.tiling import predict_tiled
from segjax.segmentation import Segmentation
from segjax.tasks import Task
from segjax.typing import Array, Outputs, Params


class Predictor:
    """Applies a task's parameters to images; compiled once for each of a handful of window sizes.

    Attributes:
      params: may be replaced between calls, by others of the same shapes, without compiling anew.
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
    ) -> None:
        """Makes the method.

        Args:
          task: whose `predict` and `segment` to use.
          params: of its network.
          prepare: `image as read [H, W, C] -> network input [h, w, C] float32`, the same as in training.
          tile: the largest window, in pixels of the network's input.
          overlap: of windows, likewise.
          flips: whether to average over the image and its three mirror images.
        """
        self.params = params
        self._prepare, self._tile, self._overlap = prepare, tile, overlap
        self._segment = task.segment
        self._predict = jax.jit(_flipped(task.predict) if flips else task.predict)

    def __call__(self, image: np.ndarray) -> Segmentation:
        """Segments an image `[H, W, C]` as it was read."""
        return self._segment(self.outputs(image))

    def outputs(self, image: np.ndarray) -> Outputs:
        """The outputs of the network at the image's own resolution, [H, W, ...] float32."""
        found = predict_tiled(
            lambda windows: self._predict(self.params, windows),
            self._prepare(image),
            tile=self._tile,
            overlap=self._overlap,
        )
        return {name: _resize(np.asarray(values), image.shape[:2]) for name, values in found.items()}


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
