"""Scalar losses, reduced from the values per pixel and per class, and their weighted sum."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import InputError, choose
from segjax.losses import pixel, region
from segjax.ops.masks import boundaries, near_two_instances
from segjax.typing import IGNORE, Array, Batch


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


def _cross_entropy(logits: Array, batch: Batch, **options: Any) -> jax.Array:
    return _mean_of_pixels(pixel.cross_entropy(logits, batch["semantic"], **options), batch)


def _focal(logits: Array, batch: Batch, **options: Any) -> jax.Array:
    return _mean_of_pixels(pixel.focal(logits, batch["semantic"], **options), batch)


def _boundary(logits: Array, batch: Batch, *, width: int = 2, **options: Any) -> jax.Array:
    def near(labels: Array, ignored: Array) -> Array:
        return boundaries(labels, width=width, ignored=ignored) | near_two_instances(labels, radius=width)

    is_near = jax.vmap(near)(batch["labels"], batch["semantic"] == IGNORE)
    values = pixel.boundary_weighted_cross_entropy(logits, batch["semantic"], is_near, **options)
    return _mean_of_pixels(values, batch)


def _dice(logits: Array, batch: Batch, *, class_weights: Array | None = None, **options: Any) -> jax.Array:
    values = region.dice(logits, batch["semantic"], **options)  # over the full batch
    return _mean_of_classes(values, region.present_classes(batch["semantic"], len(values)), class_weights)


def _lovasz(logits: Array, batch: Batch, *, class_weights: Array | None = None) -> jax.Array:
    num_classes = logits.shape[-1]
    values = jax.vmap(region.lovasz_softmax)(logits, batch["semantic"])  # [B, K]
    present = jax.vmap(lambda targets: region.present_classes(targets, num_classes))(batch["semantic"])
    return _mean_of_classes(values, present, class_weights)


def _mean_of_classes(values: Array, present: Array, class_weights: Array | None) -> jax.Array:
    weights = jnp.ones(values.shape[-1]) if class_weights is None else class_weights
    return mean_where(values, jnp.einsum("...k,k->...k", present.astype(jnp.float32), weights))


# Each maps (logits [B, H, W, K], batch, *, class_weights [K] or None, its own options) to a scalar: a mean
# over the pixels that are not ignored, or over the classes present.
LOSSES: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": _cross_entropy,  # label_smoothing
    "focal": _focal,  # gamma
    "boundary_cross_entropy": _boundary,  # strength, width, label_smoothing
    "dice": _dice,  # smooth
    "lovasz": _lovasz,
}


def weighted_sum(
    weights: Mapping[str, float],
    *,
    class_weights: Sequence[float] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
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
      options: further keyword arguments per loss, such as `{"focal": {"gamma": 2.0}}`.

    Returns:
      A function of logits [B, H, W, K] and a batch with `semantic` [B, H, W] and `labels` [B, H, W] to the
      sum and, for logging, the unweighted terms by name.

    Raises:
      InputError: if a name is not in `LOSSES`, there is no term, or (when called) the number of class weights
        is not that of the classes.
    """
    options = options or {}
    for name in (*weights, *options):
        choose(LOSSES, "loss", name)
    if not weights:
        raise InputError(f"the loss has no term: give at least one of {', '.join(LOSSES)} a weight")
    if unused := set(options) - set(weights):
        raise InputError(
            f"options are given for {', '.join(sorted(unused))}, which have no weight in the loss"
        )
    per_class = None if class_weights is None else np.asarray(class_weights, np.float32)

    def loss(logits: Array, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        if per_class is not None and per_class.shape != logits.shape[-1:]:
            raise InputError(f"{per_class.size} class weights are given for {logits.shape[-1]} classes")
        terms = {
            name: LOSSES[name](logits, batch, class_weights=per_class, **options.get(name, {}))
            for name in weights
        }
        return sum((weights[name] * term for name, term in terms.items()), jnp.zeros(())), terms

    return loss
