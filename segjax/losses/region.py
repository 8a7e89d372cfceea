"""Losses of whole regions, one value for each class: they do not drown a small class in a large one."""

import jax
import jax.numpy as jnp

from segjax.typing import IGNORE, Array


def dice(logits: Array, targets: Array, *, smooth: float = 1.0) -> Array:
    """One minus the Dice overlap of each class, with probabilities in the place of a decision.

        1 - (2 sum p t + smooth) / (sum p + sum t + smooth)

    The sums run over all judged pixels that are given: of one image, or of a batch, which is steadier where
    patches are small, and is the same however a batch is spread over devices.

    Args:
      logits: [..., K] float.
      targets: [...] int, the true class, or `IGNORE`.
      smooth: pixels; what a small class is protected by.

    Returns:
      [K] float32. A class that no judged pixel has is 0 and has no gradient: average over
      `present_classes`.

    References:
      Milletari et al., V-Net (https://arxiv.org/abs/1606.04797), whose squares in the denominator are left
      out here, as optax.losses.dice_loss leaves them out.
    """
    num_classes = logits.shape[-1]
    valid = (targets != IGNORE).astype(jnp.float32)[..., None]
    truth = jax.nn.one_hot(targets, num_classes, dtype=jnp.float32)
    probabilities = jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1) * valid
    pixels = tuple(range(targets.ndim))
    both = jnp.sum(probabilities * truth, axis=pixels)
    either = jnp.sum(probabilities, axis=pixels) + jnp.sum(truth, axis=pixels)
    values = 1 - (2 * both + smooth) / (either + smooth)
    return jnp.where(present_classes(targets, num_classes), values, 0)


def lovasz_softmax(logits: Array, targets: Array) -> Array:
    """The convex surrogate of one minus the intersection over union of each class, in one image.

    Sorts the errors |t - p| of all pixels, largest first, and sums each times what it costs in IoU to get
    that pixel wrong too.

    Args:
      logits: [..., K] float.
      targets: [...] int, the true class, or `IGNORE`.

    Returns:
      [K] float32. A class that no judged pixel has is 0 and has no gradient: average over
      `present_classes`.

    References:
      Berman et al., The Lovász-Softmax loss (https://arxiv.org/abs/1705.08790), algorithm 1.
    """
    num_classes = logits.shape[-1]
    valid = (targets != IGNORE).reshape(-1, 1)
    truth = jax.nn.one_hot(targets, num_classes, dtype=jnp.float32).reshape(-1, num_classes)
    probabilities = jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1).reshape(-1, num_classes)
    # Ignored pixels sort behind all others, where they add nothing: as if they were not there.
    errors = jnp.where(valid, jnp.abs(truth - probabilities), -1.0)
    values = jax.vmap(_lovasz_extension, in_axes=1)(errors, truth)
    return jnp.where(present_classes(targets, num_classes), values, 0)


def _lovasz_extension(errors: jax.Array, truth: jax.Array) -> jax.Array:
    falling, truth = jax.lax.sort((-errors, truth), num_keys=1)
    total = jnp.sum(truth)
    intersection = total - jnp.cumsum(truth)
    union = jnp.maximum(total + jnp.cumsum(1 - truth), 1)
    cost = 1 - intersection / union  # of getting this pixel and all before it wrong
    return jnp.sum(jax.nn.relu(-falling) * jnp.diff(cost, prepend=jnp.zeros(1, cost.dtype)))


def present_classes(targets: Array, num_classes: int) -> Array:
    """Tells which classes some pixel has.

    Args:
      targets: [...] int, the true class, or `IGNORE`.
      num_classes: K.

    Returns:
      [K] bool.
    """
    return jnp.any(jax.nn.one_hot(targets, num_classes, dtype=bool), axis=tuple(range(targets.ndim)))
