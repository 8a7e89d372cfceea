"""Unreduced per-pixel losses."""

import jax
import jax.numpy as jnp
import optax

from segjax.typing import IGNORE, Array

# The differences of larger outputs, their squares and the sums over the pixels of a batch might overflow.
LARGEST = 1e8


def bounded(outputs: Array) -> jax.Array:
    """Returns the outputs of a network as float32, clipped to -`LARGEST` and `LARGEST`.

    All losses apply it, so that they and their gradients are finite for finite outputs.
    """
    return jnp.clip(jnp.asarray(outputs, jnp.float32), -LARGEST, LARGEST)


def cross_entropy(
    logits: Array,
    targets: Array,
    *,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
) -> Array:
    """Cross-entropy between the predicted and the true class of every pixel.

        - sum_k w_k q_k log p_k,   p = softmax(logits),   q = (1 - s) onehot(target) + s / K

    Args:
      logits: [..., K] float.
      targets: [...] int, the true class, or `IGNORE`.
      class_weights: [K] float, w; all 1 if None. They are not normalised.
      label_smoothing: s, in [0, 1).

    Returns:
      [...] float32, 0 where the target is `IGNORE`.
    """
    distribution = optax.losses.smooth_labels(_one_hot(targets, logits), label_smoothing)
    if class_weights is not None:
        distribution = jnp.einsum("...k,k->...k", distribution, jnp.asarray(class_weights, jnp.float32))
    values = optax.losses.softmax_cross_entropy(bounded(logits), distribution)
    return jnp.where(targets == IGNORE, 0, values)


def focal(logits: Array, targets: Array, *, gamma: float = 2.0, class_weights: Array | None = None) -> Array:
    """Focal loss: cross-entropy that down-weights pixels already classified with confidence.

        - w_t (1 - p_t)^gamma log p_t,   t the true class

    Args:
      logits: [..., K] float.
      targets: [...] int, the true class, or `IGNORE`.
      gamma: 0 is cross-entropy.
      class_weights: [K] float, w (the paper's alpha); all 1 if None.

    Returns:
      [...] float32, 0 where the target is `IGNORE`.

    References:
      Lin et al., Focal Loss for Dense Object Detection (https://arxiv.org/abs/1708.02002), here with the
      softmax of K classes in place of a sigmoid.
    """
    log_probability = -cross_entropy(logits, targets)
    # Clamped above 0, where the derivative of a power below 1 is infinite.
    doubt = jnp.maximum(-jnp.expm1(log_probability), jnp.finfo(jnp.float32).tiny)
    values = -(doubt**gamma) * log_probability
    if class_weights is not None:
        values *= _one_hot(targets, logits) @ jnp.asarray(class_weights, jnp.float32)
    return values


def boundary_weighted_cross_entropy(
    logits: Array,
    targets: Array,
    boundary: Array,
    *,
    strength: float = 5.0,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
) -> Array:
    """Cross-entropy times `1 + strength * boundary`, which emphasises the borders between cells.

    Args:
      logits: [..., K] float.
      targets: [...] int, the true class, or `IGNORE`.
      boundary: [...] bool, or float in [0, 1] where it fades out.
      strength: extra weight of a boundary pixel.
      class_weights: [K] float; all 1 if None.
      label_smoothing: in [0, 1).

    Returns:
      [...] float32, 0 where the target is `IGNORE`.

    References:
      Ronneberger et al., U-Net, equation 2 (https://arxiv.org/abs/1505.04597).
    """
    values = cross_entropy(logits, targets, class_weights=class_weights, label_smoothing=label_smoothing)
    return values * (1 + strength * jnp.asarray(boundary, jnp.float32))


def smooth_l1(predictions: Array, targets: Array, *, beta: float = 1.0) -> Array:
    """Smooth L1 loss: absolute error, quadratic near 0. Used to regress distance maps.

        d^2 / (2 beta) where d = |prediction - target| < beta,   d - beta / 2 elsewhere

    Args:
      predictions: [...] float.
      targets: [...] float.
      beta: width of the quadratic part, in units of the targets.

    Returns:
      [...] float32.

    References:
      Girshick, Fast R-CNN (https://arxiv.org/abs/1504.08083); torch.nn.functional.smooth_l1_loss.
    """
    return optax.losses.huber_loss(bounded(predictions), targets, delta=beta) / beta


def _one_hot(targets: Array, logits: Array) -> Array:
    # K is small, and XLA differentiates a product faster on CPU than it scatters. IGNORE is all zeros.
    return jax.nn.one_hot(targets, logits.shape[-1], dtype=jnp.float32)
