"""Stain normalisation and stain augmentation of H&E images."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import choose
from segjax.ops import stain
from segjax.typing import Array

# The reference slide. Macenko: the stains in the authors' public code. Reinhard: mean and standard deviation
# in CIELAB, the medians over the stained images in the training split of BBBC038.
STAINS = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]], np.float32)
STRONGEST = np.array([1.9705, 1.0308], np.float32)
MEAN = np.array([65.0, 19.0, -25.0], np.float32)
DEVIATION = np.array([14.0, 16.0, 16.0], np.float32)
METHODS = {
    "macenko": functools.partial(stain.macenko, stains=STAINS, strongest=STRONGEST),
    "reinhard": functools.partial(stain.reinhard, mean=MEAN, deviation=DEVIATION),
}
# An image whose channels differ by less than this fraction of the full scale counts as grey.
GREY = 0.01
# Patches are normalised, so the transmittance of their darkest pixels is unknown. In the images above, it is
# this fraction of the brightest red, green and blue.
DARKEST = np.array([0.40, 0.13, 0.79], np.float32)
# Largest shift of the stain density at strength 1.
SHIFT = 0.2


def normalise_stain(image: np.ndarray, method: str | None, *, sample: np.ndarray | None = None) -> np.ndarray:
    """Normalises stain colours to a reference slide, to remove laboratory and scanner differences.

    Args:
      image: [H, W, C] uint8, uint16 or float, as read from the file. Its full scale is white: 1 for floats up
        to 1, else 2**n - 1 for the smallest n >= 8 that fits the brightest pixel.
      method: "macenko" matches stain colours and amounts, "reinhard" matches the colour distribution. None
        returns the image unchanged.
      sample: [P, 3] of the same type, pixels of a larger image of which this one is a window; the stains are
        estimated from them. By default they are estimated from the image.

    Returns:
      [H, W, 3] float32 in [0, 1]; or the unchanged image if it is grey or does not have three channels.
      Macenko's method changes only images with both stains, see `segjax.ops.stain.macenko`.

    Raises:
      InputError: if the method is unknown.
    """
    if method is None:
        return image
    choose(METHODS, "stain", method)
    if image.shape[-1] != 3:
        return image
    known = image.reshape(-1, 3) if sample is None else sample
    scale = _full_scale(known)
    light = known.astype(np.float32) / scale
    if np.ptp(light, axis=-1).max() < GREY:
        return image
    pixels = light if sample is None else np.concatenate([light, image.reshape(-1, 3) / np.float32(scale)])
    # Padding to powers of two limits recompilation for images of many sizes.
    capacity = max(2 ** (len(pixels) - 1).bit_length(), 2**12)
    padded = np.pad(pixels, [(0, capacity - len(pixels)), (0, 0)])
    changed = np.asarray(_compiled(method)(padded, np.arange(capacity) < len(known)))
    return changed[: len(pixels)][-image.shape[0] * image.shape[1] :].reshape(image.shape)


@functools.cache
def _compiled(method: str) -> jax.stages.Wrapped:
    return jax.jit(METHODS[method])


def _full_scale(image: np.ndarray) -> float:
    brightest = float(image.max())
    if np.issubdtype(image.dtype, np.floating) and brightest <= 1:
        return 1.0
    return float(max(2 ** int(np.ceil(np.log2(max(brightest, 1) + 1))), 256) - 1)


def stain_jitter(key: Array, image: Array, *, strength: float) -> Array:
    """Randomly scales and shifts the haematoxylin and eosin densities, to imitate other laboratories.

    The optical densities are unknown, because each channel of a patch is normalised. The function assumes a
    transmittance from `DARKEST` to 1. The residual that neither stain explains does not change.

    Args:
      key: random key.
      image: [H, W, C] float32, background near 1. Returned unchanged if it is grey or does not have three
        channels.
      strength: largest relative change of the amount of a stain.

    Returns:
      [H, W, C] float32, not normalised any more.

    References:
      Tellez et al., Whole-slide mitosis detection in H&E breast histology (https://arxiv.org/abs/1808.05896).
    """
    if image.shape[-1] != 3:
        return image
    darkest = DARKEST[None, None]
    light = darkest + (1 - darkest) * image
    amounts = stain.unmix(stain.optical_density(light), _BASIS)
    factor, shift = strength * jax.random.uniform(key, (2, 1, 1, 2), minval=-1.0)
    stained = amounts[..., :2] * (1 + factor) + SHIFT * shift
    # The default on TPUs would round densities to eight bits.
    density = jnp.matmul(
        jnp.concatenate([stained, amounts[..., 2:]], axis=-1), _BASIS, precision=jax.lax.Precision.HIGHEST
    )
    changed = (jnp.exp(-density) - darkest) / (1 - darkest)
    grey = jnp.max(jnp.max(image, axis=-1) - jnp.min(image, axis=-1)) < GREY
    return jnp.where(grey, image, changed)


def _with_residual(stains: np.ndarray) -> np.ndarray:
    """Returns [3, 3]: two stains and the direction orthogonal to both, the residual."""
    return np.stack([*stains, np.cross(*stains)]).astype(np.float32)


_BASIS = _with_residual(stain.RUIFROK[:2])
