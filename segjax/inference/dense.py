"""Predicts maps of images of any size, and segments them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax.inference.tiling import predict_tiled
from segjax.segmentation import Segmentation
from segjax.tasks.base import Task
from segjax.typing import Array, Outputs, Params


@dataclasses.dataclass(eq=False)
class DensePredictor:
    """Blends the maps of a network over windows; the fields are those of `create_predictor`.

    The network is compiled once for each of a few window sizes.
    """

    task: Task
    params: Params
    _: dataclasses.KW_ONLY
    prepare: Callable[[np.ndarray], np.ndarray]
    tile: int = 512
    overlap: int = 64
    flips: bool = False

    def __post_init__(self) -> None:
        predict = self.task.predict
        self._predict = jax.jit(_mean_over_flips(predict) if self.flips else predict)

    def __call__(self, image: np.ndarray) -> Segmentation:
        """Segments an image [H, W, C] as it was read."""
        return self.task.segment(self.predict_maps(image))

    def predict_maps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the maps [H, W, ...] float32 at the resolution of the image."""
        maps = predict_tiled(
            lambda windows: self._predict(self.params, windows),
            self.prepare(image),
            tile=self.tile,
            overlap=self.overlap,
        )
        return {name: _resize(np.asarray(values), image.shape[:2]) for name, values in maps.items()}


def _mean_over_flips(predict: Callable[[Params, Array], Outputs]) -> Callable[[Params, Array], Outputs]:
    """Returns the mean of the predictions for an image and its mirror images."""
    flips: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))

    def mean(params: Params, images: Array) -> Outputs:
        outputs = predict(params, jnp.concatenate([jnp.flip(images, axes) for axes in flips]))

        def unflipped_mean(values: Array) -> Array:
            parts = zip(jnp.split(values, len(flips)), flips, strict=True)
            return jnp.stack([jnp.flip(part, axes) for part, axes in parts]).mean(0)

        return {name: unflipped_mean(values) for name, values in outputs.items()}

    return mean


def _resize(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resizes maps [h, w, ...] to [H, W, ...], bilinearly."""
    if values.shape[:2] == shape:
        return values
    channels = np.moveaxis(values.reshape(*values.shape[:2], -1), -1, 0)
    resized = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(channel)).resize(shape[::-1], Image.Resampling.BILINEAR)
        )
        for channel in channels
    ]
    return np.stack(resized, axis=-1).reshape(*shape, *values.shape[2:])
