"""Colours of stained tissue: optical density, stain separation, CIELAB, Macenko and Reinhard normalisation.

`light` is the transmitted intensity, 1 where nothing is absorbed. Colours are [..., 3] RGB.
"""

import jax
import jax.numpy as jnp
import numpy as np

from segjax.typing import Array

# Optical densities of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston, 2001).
RUIFROK = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)

# Linear light of sRGB's red, green and blue as CIE XYZ, and the white D65.
_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    np.float32,
)
_WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)
_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]], np.float32)
# Minimum number of stained pixels to estimate the stains, and maximum red density of the second stain. Above
# it, the second stain is not eosin but another shade of the first: the slide has only one stain, and
# separating the two would amplify noise.
_FEWEST = 100
_REDDEST = 0.25
_EXACT = jax.lax.Precision.HIGHEST


def optical_density(light: Array, *, darkest: float = 1 / 255) -> jax.Array:
    """Returns the optical density, which is additive over stains (Beer-Lambert law).

    Args:
      light: [...] float.
      darkest: lower bound to which light is clipped.

    Returns:
      [...] float, `-log(light)`.
    """
    return -jnp.log(jnp.maximum(light, darkest))


def unmix(density: Array, stains: Array) -> jax.Array:
    """Returns the amounts of three stains that produce an optical density.

    Args:
      density: [..., 3] optical density.
      stains: [3, 3], one row of RGB densities per stain, such as `RUIFROK`.

    Returns:
      [..., 3] amounts; `amounts @ stains` is the density.
    """
    return jnp.matmul(density, jnp.linalg.inv(stains), precision=_EXACT)


def rgb_to_lab(light: Array) -> jax.Array:
    """Converts sRGB to CIELAB.

    Args:
      light: [..., 3] float in [0, 1].

    Returns:
      [..., 3]: lightness, green to red, blue to yellow.

    References:
      skimage.color.rgb2lab, with the same constants.
    """
    linear = jnp.where(light > 0.04045, ((jnp.maximum(light, 0) + 0.055) / 1.055) ** 2.4, light / 12.92)
    xyz = jnp.matmul(linear, _XYZ.T, precision=_EXACT) / _broadcast(_WHITE, linear)
    root = jnp.where(xyz > 0.008856, jnp.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return jnp.matmul(root, _LAB.T, precision=_EXACT) - _broadcast(np.array([16, 0, 0], np.float32), root)


def lab_to_rgb(lab: Array) -> jax.Array:
    """Converts CIELAB to sRGB, the inverse of `rgb_to_lab`.

    Args:
      lab: [..., 3] float.

    Returns:
      [..., 3] float, clipped to [0, 1].
    """
    y = (lab[..., 0] + 16) / 116
    # Clipped at 0, as in scikit-image.
    z = jnp.maximum(y - lab[..., 2] / 200, 0)
    root = jnp.stack([y + lab[..., 1] / 500, y, z], axis=-1)
    xyz = jnp.where(root > 0.2068966, root**3, (root - 16 / 116) / 7.787) * _broadcast(_WHITE, root)
    linear = jnp.matmul(xyz, np.linalg.inv(_XYZ).T, precision=_EXACT)
    light = jnp.where(
        linear > 0.0031308, 1.055 * jnp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear
    )
    return jnp.clip(light, 0, 1)


def stain_matrix(
    density: Array, valid: Array, *, threshold: float = 0.15, alpha: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Estimates the two stains of a slide: the extreme directions in the plane of its densities.

    Args:
      density: [P, 3] optical density of pixels.
      valid: [P] bool.
      threshold: pixels with a channel below this density are not stained.
      alpha: the extremes are this percentile of the angles, and 100 minus it.

    Returns:
      [2, 3], rows of length 1, haematoxylin (which absorbs more red) first; and the number of stained pixels.

    References:
      Macenko et al., A method for normalizing histology slides for quantitative analysis (2009).
    """
    stained = valid & jnp.all(density >= threshold, axis=-1)
    count = jnp.sum(stained)
    weight = stained.astype(density.dtype)[:, None]
    total = jnp.maximum(count, 1)
    centred = (density - jnp.sum(weight * density, axis=0, keepdims=True) / total) * weight
    covariance = jnp.matmul(centred.T, centred, precision=_EXACT) / jnp.maximum(count - 1, 1)
    _, vectors = jnp.linalg.eigh(covariance)
    plane = vectors[:, :0:-1]  # the two directions of largest variance, largest first
    # Flip the directions to positive densities, so that angles do not jump from pi to -pi.
    plane = plane * jnp.where(jnp.sum(plane, axis=0) < 0, -1, 1)[None]
    projected = jnp.matmul(density, plane, precision=_EXACT)
    angles = jnp.arctan2(projected[:, 1], projected[:, 0])
    extremes = percentile(angles, stained, jnp.array([alpha, 100 - alpha]))
    both = jnp.matmul(jnp.stack([jnp.cos(extremes), jnp.sin(extremes)], axis=1), plane.T, precision=_EXACT)
    return jnp.where(both[0, 0] > both[1, 0], both, both[::-1]), count


def macenko(light: Array, valid: Array, *, stains: Array, strongest: Array) -> jax.Array:
    """Macenko normalisation: replaces the stains of a slide and rescales its stain amounts.

    Args:
      light: [P, 3] float in [0, 1].
      valid: [P] bool.
      stains: [2, 3] stains of the reference slide, as from `stain_matrix`.
      strongest: [2] 99th percentiles of the stain amounts of the reference slide.

    Returns:
      [P, 3] float in [0, 1]; unchanged if too few pixels are stained or there is only one stain.
    """
    density = optical_density(light)
    own, count = stain_matrix(density, valid)
    amounts = stain_amounts(density, own)
    tops = jnp.stack([percentile(amounts[:, index], valid, jnp.array([99.0]))[0] for index in (0, 1)])
    factor = jnp.asarray(strongest) / jnp.maximum(tops, 1e-3)
    changed = jnp.exp(-jnp.matmul(amounts * factor[None], jnp.asarray(stains), precision=_EXACT))
    usable = (count >= _FEWEST) & (own[1, 0] <= _REDDEST)
    return jnp.where(usable, jnp.clip(changed, 0, 1), light)


def stain_amounts(density: Array, stains: Array) -> jax.Array:
    """Returns the amounts of two stains by a least-squares fit of the density.

    Args:
      density: [P, 3] optical density.
      stains: [2, 3] RGB densities of the stains.

    Returns:
      [P, 2].
    """
    gram = jnp.matmul(stains, stains.T, precision=_EXACT) + 1e-6 * jnp.eye(2)
    return jnp.matmul(density, jnp.linalg.solve(gram, stains).T, precision=_EXACT)


def reinhard(light: Array, valid: Array, *, mean: Array, deviation: Array) -> jax.Array:
    """Reinhard normalisation: transfers the mean and standard deviation of a reference image in CIELAB.

    Args:
      light: [P, 3] float in [0, 1].
      valid: [P] bool.
      mean: [3] mean of the reference image, in CIELAB.
      deviation: [3] standard deviation of the reference image, in CIELAB.

    Returns:
      [P, 3] float in [0, 1].

    References:
      Reinhard et al., Color transfer between images (2001), with CIELAB instead of its opponent colours.
    """
    lab = rgb_to_lab(light)
    own_mean = jnp.mean(lab, axis=0, where=valid[:, None], keepdims=True)
    own_deviation = jnp.std(lab, axis=0, where=valid[:, None], keepdims=True)
    factor = _broadcast(deviation, lab) / jnp.maximum(own_deviation, 1e-3)
    return lab_to_rgb((lab - own_mean) * factor + _broadcast(mean, lab))


def percentile(values: Array, valid: Array, percentages: Array) -> jax.Array:
    """Returns percentiles of the valid values, by linear interpolation.

    Args:
      values: [P] float.
      valid: [P] bool.
      percentages: [Q] in 0..100.

    Returns:
      [Q] float.

    References:
      numpy.percentile of `values[valid]`.
    """
    ordered = jnp.sort(jnp.where(valid, values, jnp.inf))
    position = percentages / 100 * jnp.maximum(jnp.sum(valid) - 1, 0)
    low = jnp.floor(position).astype(jnp.int32)
    below, above = ordered[low], ordered[jnp.ceil(position).astype(jnp.int32)]
    return below + (position - low) * (above - below)


def _broadcast(values: Array, array: Array) -> jax.Array:
    """Reshapes [3] to [1, ..., 3] to broadcast with [..., 3]."""
    return jnp.reshape(jnp.asarray(values), (1,) * (array.ndim - 1) + (-1,))
