"""Random changes of all channels of an image, each with a probability.

The functions take one normalised image [H, W, C] and return one of the same shape. They are pure functions of
`key` and their arguments, for use under jit and vmap.
"""

import jax
import jax.numpy as jnp

from segjax.typing import Array


def invert(key: Array, image: Array, *, probability: float) -> Array:
    """Swaps bright and dark: fluorescence looks like bright field, and the other way round."""
    return jnp.where(jax.random.uniform(key) < probability, -image, image)


def shuffle_channels(key: Array, image: Array, *, probability: float) -> Array:
    """Permutes the channels, so that colours carry no meaning."""
    happens, order = jax.random.split(key)
    image = jnp.asarray(image)
    permutation = jax.random.permutation(order, image.shape[-1])
    return jnp.where(jax.random.uniform(happens) < probability, image[..., permutation], image)


def greyscale(key: Array, image: Array, *, probability: float) -> Array:
    """Replaces every channel by one randomly weighted mean of all channels."""
    happens, mixture = jax.random.split(key)
    weights = jax.random.uniform(mixture, image.shape[-1:], minval=1e-3)
    grey = jnp.einsum("hwc,c->hw", image, weights / weights.sum())[..., None]
    return jnp.where(jax.random.uniform(happens) < probability, grey, image)
