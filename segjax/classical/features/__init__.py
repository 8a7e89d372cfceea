"""Hand-made pixel features: colour, texture and shape."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segjax.classical.features import colour, shape, texture
from segjax.classical.features.texture import HAND_MADE, hand_made
from segjax.errors import InputError
from segjax.typing import Array

__all__ = ["FEATURES", "HAND_MADE", "Feature", "extract", "hand_made", "hand_made_of"]

# Images are padded to a multiple of this, to limit recompilation.
BLOCK = 128


class Feature(NamedTuple):
    """A feature: one or more maps.

    Attributes:
      maps: name of each map.
      of: computes [H, W, F], or [H, W] for a single map, from the image [H, W, 3] or its mean over channels
        [H, W].
      coloured: whether it needs red, green and blue.
    """

    maps: tuple[str, ...]
    of: Callable[[Array], jax.Array]
    coloured: bool = False


FEATURES: dict[str, Feature] = {
    "rgb": Feature(("red", "green", "blue"), jnp.asarray, coloured=True),
    "hsv": Feature(("hue", "saturation", "value"), colour.hsv, coloured=True),
    "lab": Feature(("lightness", "green-red", "blue-yellow"), colour.lab, coloured=True),
    "hed": Feature(("haematoxylin", "eosin", "DAB"), colour.hed, coloured=True),
    "hand_made": Feature(HAND_MADE, hand_made),
    "gabor": Feature(("Gabor 0.1", "Gabor 0.2"), texture.gabor),
    "local_binary_pattern": Feature(("local binary pattern",), texture.local_binary_pattern),
    "cooccurrence": Feature(("contrast", "homogeneity", "correlation"), texture.cooccurrence),
    "curvature": Feature(("curvature",), shape.curvature),
    "blobness": Feature(("blobness",), shape.blobness),
}


def extract(images: Array, names: Sequence[str]) -> tuple[jax.Array, tuple[str, ...]]:
    """Extracts features of a batch in one jit-compiled call.

    Args:
      images: [B, H, W, C] float in 0..1.
      names: keys of `FEATURES`, in output order.

    Returns:
      The maps [B, H, W, F] float32, and the F names of the maps.

    Raises:
      InputError: if a name is unknown, or a colour feature is asked of an image without three channels.
    """
    for name in names:
        if name not in FEATURES:
            raise InputError(f"there is no feature {name!r}: choose among {', '.join(FEATURES)}")
        if FEATURES[name].coloured and images.shape[-1] != 3:
            raise InputError(f"feature {name} needs red, green and blue, not {images.shape[-1]} channels")
    return _extract(jnp.asarray(images, jnp.float32), tuple(names)), tuple(
        label for name in names for label in FEATURES[name].maps
    )


def hand_made_of(intensity: np.ndarray) -> np.ndarray:
    """Returns `hand_made` of a map [H, W] of any size: [H, W, 7] float32 on the host."""
    height, width = intensity.shape
    # Filters use edge padding, so edge padding here changes nothing.
    padded = np.pad(intensity, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    return np.asarray(_hand_made(padded))[:height, :width]


_hand_made = jax.jit(hand_made)


@functools.partial(jax.jit, static_argnums=1)
def _extract(images: jax.Array, names: tuple[str, ...]) -> jax.Array:
    def extract_one(image: jax.Array) -> jax.Array:
        grey = jnp.mean(image, axis=-1)
        features = [FEATURES[name].of(image if FEATURES[name].coloured else grey) for name in names]
        return jnp.concatenate([maps.reshape(*grey.shape, -1) for maps in features], axis=-1)

    return jax.vmap(extract_one)(images)
