"""Region losses with one value per class, so that small classes count as much as large ones."""

import jax
import jax.numpy as jnp

from segjax.losses.pixel import bounded
from segjax.typing import IGNORE, Array


def dice(logits: Array, targets: Array, *, smooth: float = 1.0) -> Array:
    """Soft Dice loss of each class: one minus the Dice overlap, computed on probabilities.

        1 - (2 sum p t + smooth) / (sum p + sum t + smooth)

    The sums run over all input pixels that are not ignored: of one image, or of a batch, which is more stable
    for small patches and does not depend on how a batch is distributed over devices.

    Args:
      logits: [..., K] float.
      targets: [...] int, the true class, or `IGNORE`.
      smooth: additive smoothing in pixels, which stabilises small classes.

    Returns:
      [K] float32. Absent classes are 0 and have no gradient: average over `present_classes`.

    References:
      Milletari et al., V-Net (https://arxiv.org/abs/1606.04797), without the squares in the denominator, as
      in optax.losses.dice_loss.
    """
    num_classes = logits.shape[-1]
    valid = (targets != IGNORE).astype(jnp.float32)[..., None]
    truth = jax.nn.one_hot(targets, num_classes, dtype=jnp.float32)
    probabilities = jax.nn.softmax(bounded(logits)) * valid
    pixels = tuple(range(targets.ndim))
    both = jnp.sum(probabilities * truth, axis=pixels)
    either = jnp.sum(probabilities, axis=pixels) + jnp.sum(truth, axis=pixels)
    present = present_classes(targets, num_classes)
    # The sums of an absent class may be 0: a quotient that is not selected still makes the gradient NaN.
    values = 1 - (2 * both + smooth) / jnp.where(present, either + smooth, 1)
    return jnp.where(present, values, 0)


def lovasz_softmax(logits: Array, targets: Array) -> Array:
    """Lovász-Softmax loss: convex surrogate of one minus the IoU of each class, for one image.

    Sorts the errors |t - p| of all pixels, largest first, and sums them weighted by the IoU lost if
    that pixel is wrong too.

    Args:
      logits: [..., K] float.
      targets: [...] int, the true class, or `IGNORE`.

    Returns:
      [K] float32. Absent classes are 0 and have no gradient: average over `present_classes`.

    References:
      Berman et al., The Lovász-Softmax loss (https://arxiv.org/abs/1705.08790), algorithm 1.
    """
    num_classes = logits.shape[-1]
    valid = (targets != IGNORE).reshape(-1, 1)
    truth = jax.nn.one_hot(targets, num_classes, dtype=jnp.float32).reshape(-1, num_classes)
    probabilities = jax.nn.softmax(bounded(logits)).reshape(-1, num_classes)
    # Ignored pixels sort last and contribute nothing.
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
    """Returns which classes occur in the targets.

    Args:
      targets: [...] int, the true class, or `IGNORE`.
      num_classes: K.

    Returns:
      [K] bool.
    """
    return jnp.any(jax.nn.one_hot(targets, num_classes, dtype=bool), axis=tuple(range(targets.ndim)))
