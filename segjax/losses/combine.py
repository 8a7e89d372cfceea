"""Scalar losses, reduced from the values per pixel and per class, and their weighted sum."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import InputError, choose
from segjax.losses import pixel, region
from segjax.ops.masks import boundaries, near_two_instances
from segjax.settings import Count, NonNegative, Range, Settings
from segjax.typing import IGNORE, Array, Batch


@dataclasses.dataclass(frozen=True)
class LossOptions(Settings):
    """Settings of the losses; those of a loss that is not in the sum have no effect.

    Attributes:
      label_smoothing: fraction of the true class that is spread over all classes, for `cross_entropy` and
        `boundary_cross_entropy`.
      focal_gamma: exponent of the focal loss; 0 is cross-entropy.
      boundary_strength: extra weight of pixels near boundaries, for `boundary_cross_entropy`.
      boundary_width: distance in pixels up to which a pixel is near a boundary.
      dice_smooth: additive smoothing of the Dice loss, in pixels.
    """

    label_smoothing: Annotated[float, Range(0, 1, below=True)] = 0.0
    focal_gamma: NonNegative = 2.0
    boundary_strength: NonNegative = 5.0
    boundary_width: Count = 2
    dice_smooth: NonNegative = 1.0


def mean_where(values: Array, where: Array) -> jax.Array:
    """Returns the weighted mean of values, 0 if all weights are 0.

    Args:
      values: [...] float.
      where: [...] bool mask or float weights.

    Returns:
      A scalar. As a ratio of sums, it does not depend on how values are distributed over devices.
    """
    weights = jnp.asarray(where, jnp.float32)
    total = jnp.sum(weights)
    return jnp.sum(jnp.where(weights != 0, values * weights, 0)) / jnp.where(total > 0, total, 1)


def _mean_of_pixels(values: Array, batch: Batch) -> jax.Array:
    return mean_where(values, batch["semantic"] != IGNORE)


def _cross_entropy(logits: Array, batch: Batch, weights: Array | None, options: LossOptions) -> jax.Array:
    smoothing = options.label_smoothing
    values = pixel.cross_entropy(logits, batch["semantic"], class_weights=weights, label_smoothing=smoothing)
    return _mean_of_pixels(values, batch)


def _focal(logits: Array, batch: Batch, weights: Array | None, options: LossOptions) -> jax.Array:
    gamma = options.focal_gamma
    return _mean_of_pixels(pixel.focal(logits, batch["semantic"], gamma=gamma, class_weights=weights), batch)


def _boundary(logits: Array, batch: Batch, weights: Array | None, options: LossOptions) -> jax.Array:
    width = options.boundary_width

    def near(labels: Array, ignored: Array) -> Array:
        return boundaries(labels, width=width, ignored=ignored) | near_two_instances(labels, radius=width)

    values = pixel.boundary_weighted_cross_entropy(
        logits,
        batch["semantic"],
        jax.vmap(near)(batch["labels"], batch["semantic"] == IGNORE),
        strength=options.boundary_strength,
        class_weights=weights,
        label_smoothing=options.label_smoothing,
    )
    return _mean_of_pixels(values, batch)


def _dice(logits: Array, batch: Batch, weights: Array | None, options: LossOptions) -> jax.Array:
    values = region.dice(logits, batch["semantic"], smooth=options.dice_smooth)  # over the full batch
    return _mean_of_classes(values, region.present_classes(batch["semantic"], len(values)), weights)


def _lovasz(logits: Array, batch: Batch, weights: Array | None, options: LossOptions) -> jax.Array:
    del options
    num_classes = logits.shape[-1]
    values = jax.vmap(region.lovasz_softmax)(logits, batch["semantic"])  # [B, K]
    present = jax.vmap(lambda targets: region.present_classes(targets, num_classes))(batch["semantic"])
    return _mean_of_classes(values, present, weights)


def _mean_of_classes(values: Array, present: Array, class_weights: Array | None) -> jax.Array:
    weights = jnp.ones(values.shape[-1]) if class_weights is None else class_weights
    return mean_where(values, jnp.einsum("...k,k->...k", present.astype(jnp.float32), weights))


# Each maps (logits [B, H, W, K], batch, class weights [K] or None, options) to a scalar: a mean over the
# pixels that are not ignored, or over the classes present.
LOSSES: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
    "boundary_cross_entropy": _boundary,
    "dice": _dice,
    "lovasz": _lovasz,
}


def weighted_sum(
    weights: Mapping[str, float],
    *,
    class_weights: Sequence[float] | None = None,
    options: LossOptions = LossOptions(),
) -> Callable[[Array, Batch], tuple[jax.Array, dict[str, jax.Array]]]:
    """Combines losses into a weighted sum.

    >>> loss = weighted_sum({"cross_entropy": 1.0, "dice": 0.5})
    >>> logits, semantic = np.zeros((1, 4, 4, 2), np.float32), np.zeros((1, 4, 4), np.int32)
    >>> total, terms = loss(logits, {"semantic": semantic})
    >>> {name: round(float(term), 3) for name, term in terms.items()}
    {'cross_entropy': 0.693, 'dice': 0.32}

    Args:
      weights: weight of each loss, by its name in `LOSSES`.
      class_weights: [K], weight of each class in every term; equal if None. Per-pixel losses are multiplied
        by them (and still divided by the number of pixels); per-class losses become a weighted mean.
      options: settings of the losses.

    Returns:
      A function of logits [B, H, W, K] and a batch with `semantic` [B, H, W] and `labels` [B, H, W] to the
      sum and, for logging, the unweighted terms by name.

    Raises:
      InputError: if a name is not in `LOSSES`, no weight is above 0, or (when called) the number of class
        weights is not that of the classes.
    """
    for name in weights:
        choose(LOSSES, "losses", name)
    if not any(weights.values()):
        what = "weights of 0 only" if weights else "no term"
        raise InputError(
            f"losses has {what}: give at least one of {', '.join(LOSSES)} a weight above 0", field="losses"
        )
    per_class = None if class_weights is None else np.asarray(class_weights, np.float32)

    def loss(logits: Array, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        if per_class is not None and per_class.shape != logits.shape[-1:]:
            raise InputError(f"{per_class.size} class weights are given for {logits.shape[-1]} classes")
        terms = {name: LOSSES[name](logits, batch, per_class, options) for name in weights}
        return sum((weights[name] * term for name, term in terms.items()), jnp.zeros(())), terms

    return loss
