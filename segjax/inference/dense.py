"""Predicts maps of images of any size, and segments them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special
from skimage.transform import resize

from segjax.data.preprocess import DIAMETER_SCALES, factor_to_diameter, resize_image, resized_shape
from segjax.errors import InputError
from segjax.inference.replicas import Replicas
from segjax.inference.settings import PredictConfig
from segjax.inference.tiling import Windows, predict_tiled
from segjax.models.margin import Margin, receptive_margin
from segjax.representations import REPRESENTATIONS
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import typical_diameter
from segjax.segmentation.resize import resize_segmentation
from segjax.tasks.base import Task
from segjax.typing import Array, Outputs, Params

# Predictions beyond the first if the diameter is estimated, and the ratio of diameters that is close enough.
PASSES, TOLERANCE = 2, 1.25


@dataclasses.dataclass(eq=False)
class DensePredictor:
    """Blends the maps of a network over windows; the fields are those of `create_predictor`.

    The maps do not depend on the windows, except for networks with the norm `group`, see `predict_tiled`. The
    network is compiled once for each of a few window sizes. Instances are separated at the resolution of the
    network's input.

    Attributes:
      single: the windows of images that fit into one window.
    """

    task: Task
    params: Params
    _: dataclasses.KW_ONLY
    prepare: Callable[[np.ndarray], np.ndarray]
    config: PredictConfig = PredictConfig()

    def __post_init__(self) -> None:
        trained, diameter = self.config.trained_diameter, self.config.diameter
        if trained is not None and diameter:
            low, high = (trained / factor for factor in reversed(DIAMETER_SCALES))
            if not low <= diameter <= high:
                raise InputError(
                    f"diameter={diameter:g} is outside {low:g} to {high:g} pixels, which the network scales"
                    f" to {trained:g}: resize the images, or correct it",
                    field="diameter",
                )
        predict = self.task.predict
        self._predict = jax.jit(_mean_over_flips(predict) if self.config.flips else predict)
        self._replicas = Replicas()
        self.single = Windows(self.config.tile, self.config.overlap, stride=self.task.stride)
        self._several: Windows | None = None

    def __call__(self, image: np.ndarray) -> Segmentation:
        """Segments an image [H, W, C] as it was read."""
        maps, segmentation = self._predict_at_scale(image)
        if segmentation is None:
            segmentation = self.task.segment(maps)
        return resize_segmentation(segmentation, image.shape[:2])

    def segment_with_uncertainty(self, image: np.ndarray) -> tuple[Segmentation, np.ndarray]:
        """Segments an image [H, W, C] as it was read, and states how uncertain the class of each pixel is.

        Returns:
          The segmentation, and [H, W] float32: the entropy of the class probabilities, which are means over
          mirror images and checkpoints, divided by its maximum. It is 0 if one class is certain, and 1 if all
          are equally probable.
        """
        maps, segmentation = self._predict_at_scale(image)
        if segmentation is None:
            segmentation = self.task.segment(maps)
        probabilities = maps["classes"]
        entropy = special.entr(probabilities).sum(-1) / np.log(probabilities.shape[-1])
        uncertainty = np.clip(resize(entropy, image.shape[:2], order=1), 0, 1).astype(np.float32)
        return resize_segmentation(segmentation, image.shape[:2]), uncertainty

    def predict_maps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the maps [h, w, ...] float32 of an image [H, W, C] as it was read.

        Without a known diameter, the instances of a first prediction give the scale of a second one.
        """
        return self._predict_at_scale(image)[0]

    def input_shape(self, image: np.ndarray, truth: Segmentation) -> tuple[int, int]:
        """Returns `(h, w)` of the network's input for an image [H, W, C] whose instances are known."""
        trained, diameter = self.config.trained_diameter, self.config.diameter
        height, width = self.prepare(image).shape[:2]
        if trained is None:
            return height, width
        factor = trained / diameter if diameter else factor_to_diameter(truth.labels, trained)
        return resized_shape((height, width), factor)

    def segment_prepared(self, prepared: np.ndarray) -> Segmentation:
        """Segments an input of the network [h, w, C] at its resolution."""
        return self.task.segment(self._maps(prepared))

    def predict_windows(self, windows: np.ndarray) -> Outputs:
        """Returns the maps [B, S, S, ...] of inputs of the network [B, S, S, C], on the default device."""
        return self._predict(self._replicas.here(self.params), windows)

    def _predict_at_scale(self, image: np.ndarray) -> tuple[dict[str, np.ndarray], Segmentation | None]:
        """Returns the maps of an image, and their segmentation if the estimate of the scale needed it."""
        prepared, trained = self.prepare(image), self.config.trained_diameter
        if trained is None:
            return self._maps(prepared), None
        if self.config.diameter:
            return self._maps(resize_image(prepared, trained / self.config.diameter)), None
        maps, factor = self._maps(prepared), 1.0
        for _ in range(PASSES):
            segmentation = self.task.segment(maps)
            diameter = typical_diameter(segmentation.labels)
            change = np.clip(trained / diameter, 0.5, 2) if diameter > 0 else 1.0
            if abs(np.log(change)) < np.log(TOLERANCE):
                return maps, segmentation
            factor = float(np.clip(factor * change, *DIAMETER_SCALES))
            maps = self._maps(resize_image(prepared, factor))
        return maps, None

    def _maps(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        predict = functools.partial(DensePredictor.predict_windows, self)
        return predict_tiled(predict, prepared, self._choose_windows(prepared))

    def _choose_windows(self, prepared: np.ndarray) -> Windows:
        fits = max(prepared.shape[:2]) <= self.single.largest
        return self.single if fits else self.several(prepared.shape[2])

    def several(self, channels: int) -> Windows:
        """Returns the windows of images that are larger than one window; at first it computes the margin."""
        if self._several is None:
            config, stride = self.config, self.task.stride
            margin = self._receptive_margin(channels)
            patch = 0 if margin.exact else -(-config.trained_patch // stride) * stride
            self._several = Windows(max(config.tile, patch), config.overlap, margin.pixels, stride)
        return self._several

    def margin(self, channels: int) -> int:
        """Returns the margin of the network in its pixels, see `receptive_margin`."""
        return self._receptive_margin(channels).pixels

    def _receptive_margin(self, channels: int) -> Margin:
        return receptive_margin(self.task.predict, self.params, stride=self.task.stride, channels=channels)


@dataclasses.dataclass(eq=False)
class EnsemblePredictor(DensePredictor):
    """Averages the maps of several networks with the same preprocessing and outputs.

    The other fields are those of the first network, whose decoder makes the instances.
    """

    others: tuple[DensePredictor, ...] = ()

    def predict_windows(self, windows: np.ndarray) -> Outputs:
        """Returns the mean maps [B, S, S, ...] of inputs of the networks [B, S, S, C]."""
        members = [super().predict_windows(windows)]
        members += [other.predict_windows(windows) for other in self.others]
        return jax.tree.map(lambda *maps: jnp.stack(maps).mean(0), *members)

    def margin(self, channels: int) -> int:
        """Returns the largest margin of the networks."""
        return max([super().margin(channels), *(other.margin(channels) for other in self.others)])

    def _maps(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        means = super()._maps(prepared)
        for number, other in enumerate(self.others, start=2):
            for name, values in other._maps(prepared).items():
                means[name] += (values - means[name]) / number
        return means


def _mean_over_flips(predict: Callable[[Params, Array], Outputs]) -> Callable[[Params, Array], Outputs]:
    """Returns the mean of the predictions for an image and its mirror images."""
    flips: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))

    def mean(params: Params, images: Array) -> Outputs:
        outputs = predict(params, jnp.concatenate([jnp.flip(images, axes) for axes in flips]))

        def unflipped_mean(name: str, values: Array) -> Array:
            parts = zip(jnp.split(values, len(flips)), flips, strict=True)
            return jnp.stack([_mirrored(name, part, axes) for part, axes in parts]).mean(0)

        return {name: unflipped_mean(name, values) for name, values in outputs.items()}

    return mean


def _mirrored(name: str, values: Array, axes: tuple[int, ...]) -> Array:
    """Returns the mirror image of a map [B, H, W, ...], 1 for upside down and 2 for left to right."""
    if name in REPRESENTATIONS and REPRESENTATIONS[name].vectors:
        values = values * jnp.array([-1.0 if axis in axes else 1.0 for axis in (1, 2)]).reshape(1, 1, 1, 2)
    return jnp.flip(values, axes)
