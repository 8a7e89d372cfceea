"""Random photometric augmentation.

Every function takes one image [H, W, C] that is normalised, background near 0 and the brightest near 1, and
leaves the truth alone. All are pure in `key` and run inside jit and vmap.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import BSpline

from segjax.ops.filters import gaussian_blur
from segjax.typing import Array

# What a camera reads where nothing shines, relative to the brightest: uneven light makes it uneven too.
PEDESTAL = 0.1


def smooth_field(key: Array, size: tuple[int, ...], *, spacing: float, channels: int = 1) -> Array:
    """A random field that changes slowly: a cubic B-spline with normal coefficients.

    Args:
      key: random key.
      size: `(H, W)`.
      spacing: of the knots, pixels.
      channels: independent fields.

    Returns:
      [H, W, channels] float32, in every pixel of mean 0 and standard deviation 1.
    """
    down, along = (_splines(side, spacing) for side in size)
    shape = (down.shape[1], along.shape[1], channels)
    # Drawn in a row: XLA compiles that three times faster than the same numbers drawn in three dimensions.
    coefficients = jax.random.normal(key, (math.prod(shape),)).reshape(shape)
    return jnp.einsum("hi,wj,ijc->hwc", down, along, coefficients)


def _splines(size: int, spacing: float) -> np.ndarray:
    """[size, splines]: the values of all splines in each pixel, of unit length for unit variance."""
    knots = spacing * np.arange(-3, int((size - 1) / spacing) + 5)
    values = BSpline.design_matrix(np.arange(size, dtype=float), knots, 3).toarray()
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def glow(key: Array, image: Array, labels: Array, *, strength: float, radius: tuple[float, float]) -> Array:
    """Adds cytoplasmic glow and out-of-focus haze to half of all images.

    Adds two things that a nuclear stain is not meant to show, each with a random strength: cell bodies,
    whose uneven, soft-edged outlines are grown from the instances, and which are as bright as a part of
    them; and light from beyond the plane of focus, a widely blurred copy of the image.

    Args:
      key: random key.
      image: [H, W, C] float32.
      labels: [H, W] int, the instances.
      strength: the brightest glow, as a part of the mean brightness of the instances.
      radius: the range from which the standard deviation of the blur is drawn, pixels.

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

    edge = between((0.03, 0.3), where)  # the level at which a cell ends: the lower, the larger it is
    softness = edge * between((0.1, 0.5), how_soft)
    size = image.shape[:2]
    coarse = smooth_field(coarse_key, size, spacing=24.0)  # cells differ, and have a bright side
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
      strength: the most by which the light may vary, as a part of its mean.

    Returns:
      [H, W, C] float32, not normalised any more.
    """
    field_key, amount_key = jax.random.split(key)
    height, width, _ = image.shape
    field = jnp.tanh(smooth_field(field_key, (height, width), spacing=max(height, width) / 2))
    amount = jax.random.uniform(amount_key, maxval=strength)
    return (image + PEDESTAL) * (1 + amount * field) - PEDESTAL


def gamma(key: Array, image: Array, *, exponents: tuple[float, float]) -> Array:
    """Bends the scale of intensities, each channel's by a power of its own.

    Args:
      key: random key.
      image: [H, W, C] float32; below 0 becomes 0.
      exponents: the range from which the power is drawn, evenly on a logarithmic scale.

    Returns:
      [H, W, C] float32, not normalised any more.
    """
    position = jax.random.uniform(key, (1, 1, image.shape[-1]))
    return jnp.maximum(image, 0) ** between(exponents, position, logarithmic=True)


def noise(key: Array, image: Array, *, strength: float) -> Array:
    """Adds photon noise, which grows with the square root of the light, and camera noise.

    Args:
      key: random key.
      image: [H, W, C] float32.
      strength: the most that the standard deviation may be where the image is 1.

    Returns:
      [H, W, C] float32.
    """
    grain_key, amount_key = jax.random.split(key)
    deviation = jax.random.uniform(amount_key, maxval=strength) * jnp.sqrt(
        (jnp.maximum(image, 0) + PEDESTAL) / (1 + PEDESTAL)
    )
    return image + deviation * jax.random.normal(grain_key, image.shape)


def contrast(key: Array, image: Array, *, strength: float) -> Array:
    """Stretches the intensities of each channel, as if its percentiles had come out otherwise.

    Args:
      key: random key.
      image: [H, W, C] float32.
      strength: the most by which the factor may differ from 1.

    Returns:
      [H, W, C] float32.
    """
    factor, _ = _two_for_each_channel(key, image)
    return image * (1 + strength * factor)


def brightness(key: Array, image: Array, *, strength: float) -> Array:
    """Shifts the intensities of each channel by a random offset.

    Args:
      key: random key; with that of `contrast`, the shift does not depend on the factor.
      image: [H, W, C] float32.
      strength: the most by which the intensities may be shifted.

    Returns:
      [H, W, C] float32.
    """
    _, shift = _two_for_each_channel(key, image)
    return image + strength * shift


def _two_for_each_channel(key: Array, image: Array) -> Array:
    """[2, 1, 1, C] in [-1, 1)."""
    return jax.random.uniform(key, (2, 1, 1, image.shape[-1]), minval=-1.0)


def blur(key: Array, image: Array, *, sigma: tuple[float, float]) -> Array:
    """Blurs with a Gaussian, as out of focus.

    Args:
      key: random key.
      image: [H, W, C] float32.
      sigma: the range from which the standard deviation is drawn, pixels.

    Returns:
      [H, W, C] float32.
    """
    return gaussian_blur(image, between(sigma, jax.random.uniform(key)))


def intensity_range(image: Array) -> tuple[Array, Array]:
    """The intensities at the 1st and the 99.8th percentile of each channel, from a sample of the pixels.

    Args:
      image: [H, W, C] float32.

    Returns:
      Two [1, 1, C] float32.
    """
    step = max(image.shape[0] // 40, 1)  # sorting all pixels would be the dearest part of the augmentation
    low, high = jnp.percentile(image[::step, ::step], jnp.array([1.0, 99.8]), axis=(0, 1), keepdims=True)
    return low, high


def restore_range(image: Array, low: Array, high: Array) -> Array:
    """Restores the intensity range that an image had before an operation changed it.

    The percentiles that a network's input is normalised by are those of a whole image. A patch, which may
    hold background alone, is therefore brought back to its own former percentiles, not to 0 and 1.

    Args:
      image: [H, W, C] float32.
      low: [1, 1, C] float32, from `intensity_range` before the change.
      high: [1, 1, C] float32, from the same call.

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
