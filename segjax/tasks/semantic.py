"""Semantic classes, and instances from the map of a representation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from segjax.errors import InputError, choose
from segjax.losses.combine import LossOptions, mean_where, weighted_sum
from segjax.representations import REPRESENTATIONS, DecoderConfig, Representation
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import remove_small, typical_area
from segjax.settings import Fraction, NonNegative, NonNegativeInt, Settings
from segjax.typing import IGNORE, Array, Batch, Model, Outputs, Params


@dataclasses.dataclass(frozen=True)
class SemanticConfig(Settings):
    """Settings of `SemanticTask`.

    Attributes:
      instances: how touching cells are separated, a name in `segjax.representations.REPRESENTATIONS`.
      losses: weight of each loss on the classes, see `segjax.losses.combine`.
      loss_options: settings of these losses.
      class_weights: weight of each class in these losses; None for 1.
      instance_weight: weight of the loss on the second output.
      decoder: settings that turn the second output into instances.
      foreground_threshold: minimum probability of foreground, the sum over its classes; None for the most
        probable class.
      min_area: minimum number of pixels of an instance: one number, or one per foreground class.
      min_fraction: minimum area of an instance as a fraction of the typical area of its class in the image,
        see `typical_area`.
    """

    instances: str = "distance"
    losses: Mapping[str, NonNegative] = dataclasses.field(
        default_factory=lambda: {"cross_entropy": 1.0, "dice": 1.0}
    )
    loss_options: LossOptions = LossOptions()
    class_weights: tuple[NonNegative, ...] | None = None
    instance_weight: NonNegative = 1.0
    decoder: DecoderConfig = DecoderConfig()
    foreground_threshold: Fraction | None = None
    min_area: tuple[NonNegativeInt, ...] = (20,)
    min_fraction: Fraction = 0.0

    @property
    def representation(self) -> Representation:
        """The representation of instances.

        Raises:
          InputError: if `instances` is unknown.
        """
        return choose(REPRESENTATIONS, "instances", self.instances)


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
        weighted_sum(self.config.losses)
        weights = self.config.class_weights
        if weights is not None and (len(weights) != self.num_classes or not any(weights)):
            raise InputError(
                f"class_weights is {weights}: give {self.num_classes} weights, one for each class, of"
                " which one or more are above 0",
                field="class_weights",
            )
        if len(self.config.min_area) not in (1, self.num_classes - 1):
            raise InputError(
                f"min_area has {len(self.config.min_area)} values for {self.num_classes - 1} foreground"
                " classes: give one number, or one per class",
                field="min_area",
            )

    @property
    def targets(self) -> frozenset[str]:
        """The targets of the representation."""
        return self.config.representation.targets

    @property
    def stride(self) -> int:
        """The stride of the network."""
        return self.model.stride

    def init(self, key: Array, batch: Batch) -> Params:
        """Returns initial parameters."""
        return self.model.init(key, batch["image"])["params"]

    def loss(self, params: Params, batch: Batch, key: Array) -> tuple[Array, Mapping[str, Array]]:
        """Returns the weighted sum of the losses on classes and instances, and each loss by name."""
        del key
        config = self.config
        outputs = self.model.apply({"params": params}, batch["image"])
        class_loss = weighted_sum(
            config.losses, class_weights=config.class_weights, options=config.loss_options
        )
        total, terms = class_loss(outputs["classes"], batch)
        if config.representation.channels:
            values = config.representation.loss(outputs[config.instances], batch)
            mean = mean_where(values, batch["semantic"] != IGNORE)
            total, terms = total + config.instance_weight * mean, {**terms, config.instances: mean}
        return total, terms

    def predict(self, params: Params, images: Array) -> Outputs:
        """Returns class probabilities "classes" [B, H, W, K], and the map of the representation by name."""
        outputs = self.model.apply({"params": params}, images)
        maps: dict[str, Array] = {"classes": jax.nn.softmax(outputs["classes"])}
        if self.config.representation.channels:
            maps[self.config.instances] = self.config.representation.activate(outputs[self.config.instances])
        return maps

    def segment(self, outputs: Outputs) -> Segmentation:
        """Gives each pixel its most probable class, and separates the instances of each class.

        Raises:
          InputError: if an output is not finite.
        """
        config = self.config
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise InputError(
                    f"the output {name} of the network is not finite: use another checkpoint, or train with a"
                    " lower learning rate"
                )
        probabilities = np.asarray(outputs["classes"])
        semantic = probabilities.argmax(-1).astype(np.int32)
        if config.foreground_threshold is not None:
            is_foreground = probabilities[..., 0] <= 1 - config.foreground_threshold
            semantic = np.where(is_foreground, probabilities[..., 1:].argmax(-1) + 1, 0).astype(np.int32)
        maps = np.asarray(outputs.get(config.instances, probabilities[..., :0]))
        labels = np.zeros(semantic.shape, np.int32)
        classes: list[int] = []
        for index in range(1, self.num_classes):
            instances = config.representation.decode(semantic == index, maps, config.decoder)
            instances = remove_small(instances, config.min_area[min(index, len(config.min_area)) - 1])
            if config.min_fraction:
                instances = remove_small(instances, round(config.min_fraction * typical_area(instances)))
            labels = np.where(instances > 0, instances + len(classes), labels)
            classes += [index] * int(instances.max(initial=0))
        scores = mean_probabilities(probabilities, labels, np.array(classes, np.int32))
        return Segmentation.from_labels(labels, classes=classes, scores=scores, semantic=semantic)


def output_channels(config: SemanticConfig, num_classes: int) -> dict[str, int]:
    """Returns the outputs that a network needs for `SemanticTask`: name -> number of channels.

    >>> output_channels(SemanticConfig(instances="distance"), 3)
    {'classes': 3, 'distance': 1}
    """
    channels = config.representation.channels
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
