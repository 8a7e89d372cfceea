"""The boundaries of instances; the regions inside them are the seeds of a watershed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from skimage.measure import label

from segjax.losses.pixel import bounded
from segjax.ops.masks import boundaries
from segjax.representations.base import DecoderConfig
from segjax.segmentation.split_touching import split_touching
from segjax.typing import IGNORE, Array, Batch


class Boundary:
    """The probability that a pixel is a boundary pixel; see `Representation`."""

    channels = 1
    vectors = False
    grid: Mapping[str, Sequence[float]] = MappingProxyType({"threshold": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)})
    targets: frozenset[str] = frozenset()

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Returns the binary cross-entropy [B, H, W]."""
        marked = jax.vmap(lambda labels, ignored: boundaries(labels, ignored=ignored))
        is_boundary = marked(batch["labels"], batch["semantic"] == IGNORE)
        logits = bounded(outputs[..., 0])
        return jnp.logaddexp(0, jnp.where(is_boundary, -logits, logits))

    def activate(self, outputs: Array) -> Array:
        """Returns the probability [B, H, W]."""
        return jax.nn.sigmoid(outputs[..., 0])

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Returns 1 at boundary pixels, [H, W] float32."""
        return np.asarray(boundaries(labels), np.float32)

    def decode(self, foreground: np.ndarray, values: np.ndarray, config: DecoderConfig) -> np.ndarray:
        """Grows the connected regions inside the boundaries, [H, W] int32."""
        # The insides of two instances are at least two pixels apart, so that corners may connect.
        seeds = label(foreground & (values < config.threshold), connectivity=2)
        return split_touching(foreground, seeds=seeds, smoothing=config.smoothing, min_area=1)
