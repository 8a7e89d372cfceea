"""Semantic classes, and instances by a watershed on the predicted distance or boundary map."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import label as connected_components

from segjax.errors import InputError, choose
from segjax.losses.combine import mean_where, weighted_sum
from segjax.losses.pixel import smooth_l1
from segjax.ops.masks import boundaries
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import remove_small
from segjax.segmentation.split_touching import split_touching
from segjax.typing import IGNORE, Array, Batch, Model, Outputs, Params

# Instance representations, and the number of output channels of each.
INSTANCES = {"components": 0, "boundary": 1, "distance": 1}


@dataclasses.dataclass(frozen=True)
class SemanticConfig:
    """Settings of `SemanticTask`.

    Attributes:
      instances: how touching cells are separated. `components`: connected pixels of a class are one instance.
        `boundary`: a second output predicts the boundaries of instances; the regions inside them are the
        seeds of a watershed. `distance`: a second output predicts the distance transform of each instance,
        scaled to 1 at its maximum; its h-maxima are the seeds.
      losses: weight of each loss on the classes, see `segjax.losses.combine`.
      class_weights: weight of each class in these losses; None for 1.
      instance_weight: weight of the loss on the second output.
      smoothing: standard deviation, in pixels, of the Gaussian that smooths the flooded map.
      h: minimum height of the maximum of an instance above the saddle to a higher maximum.
      min_area: minimum number of pixels of an instance: one number, or one per foreground class.
      boundary_threshold: minimum probability of boundary pixels.
    """

    instances: str = "distance"
    losses: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"cross_entropy": 1.0, "dice": 1.0}
    )
    class_weights: tuple[float, ...] | None = None
    instance_weight: float = 1.0
    smoothing: float = 1.0
    h: float = 0.1
    min_area: tuple[int, ...] = (20,)
    boundary_threshold: float = 0.5

    @property
    def instance_channels(self) -> int:
        """Number of channels of the second output, which is named like `instances`.

        Raises:
          InputError: if `instances` is unknown.
        """
        return choose(INSTANCES, "instances", self.instances)


@dataclasses.dataclass(frozen=True, eq=False)
class SemanticTask:
    """An encoder-decoder with its loss and its post-processing, see `Task`.

    Attributes:
      model: a network with the outputs that `output_channels` returns.
      num_classes: K, background included.
      config: the settings.

    Raises:
      InputError: if a setting is unknown, or does not fit the number of classes.
    """

    model: Model
    num_classes: int
    config: SemanticConfig = SemanticConfig()

    def __post_init__(self) -> None:
        output_channels(self.config, self.num_classes)
        # Checks the names of the losses.
        weighted_sum(self.config.losses, class_weights=self.config.class_weights)
        if len(self.config.min_area) not in (1, self.num_classes - 1):
            raise InputError(
                f"min_area has {len(self.config.min_area)} values for {self.num_classes - 1} foreground"
                " classes: give one number, or one per class",
                field="min_area",
            )

    @property
    def targets(self) -> frozenset[str]:
        """The distance map, if the network predicts it."""
        return frozenset({"distance"} & {self.config.instances})

    def init(self, key: Array, batch: Batch) -> Params:
        """Returns initial parameters."""
        return self.model.init(key, batch["image"])["params"]

    def loss(self, params: Params, batch: Batch, key: Array) -> tuple[Array, Mapping[str, Array]]:
        """Returns the weighted sum of the losses on classes and instances, and each loss by name."""
        del key
        config = self.config
        outputs = self.model.apply({"params": params}, batch["image"])
        class_loss = weighted_sum(config.losses, class_weights=config.class_weights)
        total, terms = class_loss(outputs["classes"], batch)
        if config.instances != "components":
            values = self._instance_loss(outputs[config.instances][..., 0], batch)
            mean = mean_where(values, batch["semantic"] != IGNORE)
            total, terms = total + config.instance_weight * mean, {**terms, config.instances: mean}
        return total, terms

    def predict(self, params: Params, images: Array) -> Outputs:
        """Returns class probabilities "classes" [B, H, W, K], and "distance" or "boundary" [B, H, W]."""
        outputs = self.model.apply({"params": params}, images)
        maps: dict[str, Array] = {"classes": jax.nn.softmax(outputs["classes"])}
        if self.config.instances == "distance":
            maps["distance"] = outputs["distance"][..., 0]
        if self.config.instances == "boundary":
            maps["boundary"] = jax.nn.sigmoid(outputs["boundary"][..., 0])
        return maps

    def segment(self, outputs: Outputs) -> Segmentation:
        """Gives each pixel its most probable class, and separates the instances of each class."""
        probabilities = np.asarray(outputs["classes"])
        semantic = probabilities.argmax(-1).astype(np.int32)
        labels = np.zeros(semantic.shape, np.int32)
        classes: list[int] = []
        for index in range(1, self.num_classes):
            min_area = self.config.min_area[min(index, len(self.config.min_area)) - 1]
            instances = self._split(semantic == index, outputs, min_area)
            ids = np.unique(instances[instances > 0])
            renumbered = np.searchsorted(ids, instances) + 1 + len(classes)
            labels = np.where(instances > 0, renumbered, labels).astype(np.int32)
            classes += [index] * len(ids)
        scores = mean_probabilities(probabilities, labels, np.array(classes, np.int32))
        return Segmentation.from_labels(labels, classes=classes, scores=scores, semantic=semantic)

    def _instance_loss(self, outputs: Array, batch: Batch) -> Array:
        """Returns the loss [B, H, W] of the second output."""
        if self.config.instances == "distance":
            return smooth_l1(outputs, batch["distance"], beta=0.1)
        is_boundary = jax.vmap(boundaries)(batch["labels"])
        return jnp.logaddexp(0, jnp.where(is_boundary, -outputs, outputs))  # binary cross-entropy

    def _split(self, foreground: np.ndarray, outputs: Outputs, min_area: int) -> np.ndarray:
        config = self.config
        if config.instances == "components":
            return remove_small(connected_components(foreground)[0], min_area)
        if config.instances == "distance":
            height, seeds = np.asarray(outputs["distance"]), None
        else:
            interior = foreground & (np.asarray(outputs["boundary"]) < config.boundary_threshold)
            height, (seeds, _) = None, connected_components(interior)
        return split_touching(
            foreground, height, seeds=seeds, smoothing=config.smoothing, h=config.h, min_area=min_area
        )


def output_channels(config: SemanticConfig, num_classes: int) -> dict[str, int]:
    """Returns the outputs that a network needs for `SemanticTask`: name -> number of channels.

    >>> output_channels(SemanticConfig(instances="distance"), 3)
    {'classes': 3, 'distance': 1}
    """
    channels = config.instance_channels
    return {"classes": num_classes} | ({config.instances: channels} if channels else {})


def mean_probabilities(probabilities: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the score of each instance: the mean probability of its class over its pixels.

    Args:
      probabilities: [H, W, K] float.
      labels: [H, W] int, ids 1..N.
      classes: [N] int.

    Returns:
      [N] float32.
    """
    inside = labels > 0
    ids = labels[inside] - 1
    own = probabilities[inside, classes[ids]]
    count = np.bincount(ids, minlength=len(classes))
    return (np.bincount(ids, weights=own, minlength=len(classes)) / np.maximum(count, 1)).astype(np.float32)
