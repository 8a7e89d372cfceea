"""Random photometric augmentation.

The functions take one normalised image [H, W, C], with the background near 0 and the brightest pixels near 1.
They are pure functions of `key` and their arguments, for use under jit and vmap. Labels do not change.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import BSpline

from segjax.ops.filters import gaussian_blur
from segjax.typing import Array

# Background signal of a camera, relative to the brightest pixels. Uneven illumination scales it, too.
PEDESTAL = 0.1


def smooth_field(key: Array, size: tuple[int, ...], *, spacing: float, channels: int = 1) -> Array:
    """Returns a smooth random field: a cubic B-spline with normally distributed coefficients.

    Args:
      key: random key.
      size: `(H, W)`.
      spacing: distance between knots, pixels.
      channels: number of independent fields.

    Returns:
      [H, W, channels] float32, with mean 0 and standard deviation 1 in every pixel.
    """
    down, along = (_splines(side, spacing) for side in size)
    shape = (down.shape[1], along.shape[1], channels)
    # XLA compiles a 1-D draw three times faster than the same numbers drawn in three dimensions.
    coefficients = jax.random.normal(key, (math.prod(shape),)).reshape(shape)
    return jnp.einsum("hi,wj,ijc->hwc", down, along, coefficients)


def _splines(size: int, spacing: float) -> np.ndarray:
    """Returns all splines at each pixel [size, splines], with rows of length 1 for unit variance."""
    knots = spacing * np.arange(-3, int((size - 1) / spacing) + 5)
    values = BSpline.design_matrix(np.arange(size, dtype=float), knots, 3).toarray()
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def glow(key: Array, image: Array, labels: Array, *, strength: float, radius: tuple[float, float]) -> Array:
    """Adds cytoplasmic glow and out-of-focus haze to half of all images.

    Both are artefacts of nuclear stains, and each gets a random strength. Cytoplasmic glow is a textured,
    soft-edged region around each instance, as bright as a fraction of the instances. Haze is a strongly
    blurred copy of the image.

    Args:
      key: random key.
      image: [H, W, C] float32.
      labels: [H, W] int, the instances.
      strength: maximum brightness of the glow, as a fraction of the mean brightness of the instances.
      radius: range of the standard deviation of the blur, pixels.

    Returns:
      [H, W, C] float32, not normalised any more.
    """
    numbers_key, coarse_key, fine_key = jax.random.split(key, 3)
    where, how_far, how_soft, body_weight, haze_weight, happens = jax.random.uniform(numbers_key, (6,))

    cells = (labels > 0).astype(image.dtype)[..., None]
    level = jnp.sum(image * cells, axis=(0, 1)) / jnp.maximum(jnp.sum(cells), 1)  # [C]
    sigma = between(radius, how_far)
    blurred = gaussian_blur(jnp.concatenate([image, cells], axis=-1), sigma)
    around, haze = blurred[..., -1:], blurred[..., :-1]

    edge = between((0.03, 0.3), where)  # a lower level gives larger cells
    softness = edge * between((0.1, 0.5), how_soft)
    size = image.shape[:2]
    coarse = smooth_field(coarse_key, size, spacing=24.0)  # brightness varies between and within cells
    fine = smooth_field(fine_key, size, spacing=4.0)
    outline = jax.nn.sigmoid((around * jnp.maximum(1 + 0.4 * coarse, 0) - edge) / softness)
    texture = jnp.maximum(1 + 0.3 * coarse + 0.2 * fine, 0)
    bodies = outline * texture * jnp.maximum(level, 0)[None, None]
    return image + jnp.where(happens < 0.5, strength, 0) * (body_weight * bodies + 2 * haze_weight * haze)


def illumination(key: Array, image: Array, *, strength: float) -> Array:
    """Applies uneven illumination.

    Args:
      key: random key.
      image: [H, W, C] float32.
      strength: maximum variation of the illumination, as a fraction of its mean.

    Returns:
      [H, W, C] float32, not normalised any more.
    """
    field_key, amount_key = jax.random.split(key)
    height, width, _ = image.shape
    field = jnp.tanh(smooth_field(field_key, (height, width), spacing=max(height, width) / 2))
    amount = jax.random.uniform(amount_key, maxval=strength)
    return (image + PEDESTAL) * (1 + amount * field) - PEDESTAL


def gamma(key: Array, image: Array, *, exponents: tuple[float, float]) -> Array:
    """Applies gamma correction with an independent exponent for each channel.

    Args:
      key: random key.
      image: [H, W, C] float32; negative values become 0.
      exponents: range of the exponent, log-uniform.

    Returns:
      [H, W, C] float32, not normalised any more.
    """
    position = jax.random.uniform(key, (1, 1, image.shape[-1]))
    return jnp.maximum(image, 0) ** between(exponents, position, logarithmic=True)


def noise(key: Array, image: Array, *, strength: float) -> Array:
    """Adds camera noise, and photon noise that grows with the square root of the signal.

    Args:
      key: random key.
      image: [H, W, C] float32.
      strength: maximum standard deviation where the image is 1.

    Returns:
      [H, W, C] float32.
    """
    grain_key, amount_key = jax.random.split(key)
    deviation = jax.random.uniform(amount_key, maxval=strength) * jnp.sqrt(
        (jnp.maximum(image, 0) + PEDESTAL) / (1 + PEDESTAL)
    )
    return image + deviation * jax.random.normal(grain_key, image.shape)


def contrast(key: Array, image: Array, *, strength: float) -> Array:
    """Scales the intensities of each channel by a random factor.

    Args:
      key: random key.
      image: [H, W, C] float32.
      strength: maximum difference of the factor from 1.

    Returns:
      [H, W, C] float32.
    """
    factor, _ = _two_for_each_channel(key, image)
    return image * (1 + strength * factor)


def brightness(key: Array, image: Array, *, strength: float) -> Array:
    """Shifts the intensities of each channel by a random offset.

    Args:
      key: random key. It may be the key passed to `contrast`; shift and factor are still independent.
      image: [H, W, C] float32.
      strength: maximum offset.

    Returns:
      [H, W, C] float32.
    """
    _, shift = _two_for_each_channel(key, image)
    return image + strength * shift


def _two_for_each_channel(key: Array, image: Array) -> Array:
    """Returns two uniform numbers in [-1, 1) per channel, [2, 1, 1, C]."""
    return jax.random.uniform(key, (2, 1, 1, image.shape[-1]), minval=-1.0)


def blur(key: Array, image: Array, *, sigma: tuple[float, float]) -> Array:
    """Blurs with a Gaussian of random width.

    Args:
      key: random key.
      image: [H, W, C] float32.
      sigma: range of the standard deviation, pixels.

    Returns:
      [H, W, C] float32.
    """
    return gaussian_blur(image, between(sigma, jax.random.uniform(key)))


def intensity_range(image: Array) -> tuple[Array, Array]:
    """Returns the 1st and 99.8th percentile of each channel, estimated from a subset of the pixels.

    Args:
      image: [H, W, C] float32.

    Returns:
      Both percentiles, [1, 1, C] float32 each.
    """
    step = max(image.shape[0] // 40, 1)  # sorting all pixels would dominate the cost of augmentation
    low, high = jnp.percentile(image[::step, ::step], jnp.array([1.0, 99.8]), axis=(0, 1), keepdims=True)
    return low, high


def restore_range(image: Array, low: Array, high: Array) -> Array:
    """Restores the intensity range that an image had before an operation changed it.

    Network inputs are normalised by the percentiles of the full image, and a patch may be background only. So
    the percentiles of the patch are restored to their previous values, not to 0 and 1.

    Args:
      image: [H, W, C] float32.
      low: [1, 1, C] float32, from `intensity_range` before the change.
      high: [1, 1, C] float32, from `intensity_range` before the change.

    Returns:
      [H, W, C] float32.
    """
    now_low, now_high = intensity_range(image)
    span = now_high - now_low
    factor = jnp.where(span > 1e-3, (high - low) / jnp.maximum(span, 1e-3), 1)
    return (image - now_low) * factor + low


def between(bounds: tuple[float, float], position: Array, *, logarithmic: bool = False) -> Array:
    """Interpolates between two bounds.

    Args:
      bounds: `(low, high)`.
      position: [...] float, 0 at the lower bound, 1 at the upper.
      logarithmic: whether to interpolate on a logarithmic scale.

    Returns:
      [...] float32.
    """
    low, high = bounds
    if logarithmic:
        return low * (high / low) ** position
    return low + (high - low) * position
