"""A few colours of instances, such that neighbours differ (https://openreview.net/forum?id=VK8SuRaJfX)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from skimage.measure import label

from segjax.data.colouring import COLOURS, RADIUS, instance_colours
from segjax.losses.pixel import bounded, cross_entropy
from segjax.representations.base import DecoderConfig
from segjax.typing import IGNORE, Array, Batch

# Weight of the loss on neighbours relative to the cross-entropy.
NEIGHBOURS = 1.0
# Keeps the logarithm finite where two neighbours certainly have the same colour.
EPSILON = 1e-4


class Colours:
    """One channel per colour; see `Representation`. Neighbours with the same colour become one instance."""

    channels = COLOURS
    vectors = False
    grid: Mapping[str, Sequence[float]] = MappingProxyType({"smoothing": (0.0, 0.5, 1.0, 2.0, 3.0)})
    targets = frozenset({"colours"})

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Returns the cross-entropy of the colours plus `alike`, [B, H, W]; 0 in the background."""
        own = cross_entropy(outputs, jnp.asarray(batch["colours"]) - 1)
        labels = jnp.where(batch["semantic"] == IGNORE, 0, batch["labels"])
        return own + NEIGHBOURS * jax.vmap(alike)(outputs, labels)

    def activate(self, outputs: Array) -> Array:
        """Returns the probabilities [B, H, W, C]."""
        return jax.nn.softmax(outputs)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Returns 1 for the colour of each pixel, [H, W, C] float32."""
        return np.asarray(instance_colours(labels)[..., None] == np.arange(1, COLOURS + 1), np.float32)

    def decode(self, foreground: np.ndarray, values: np.ndarray, config: DecoderConfig) -> np.ndarray:
        """Labels the connected parts of each colour, [H, W] int32."""
        sigmas = (config.smoothing, config.smoothing, 0)
        smooth = ndimage.gaussian_filter(np.asarray(values, np.float32), sigmas)
        colours = np.where(foreground, 1 + smooth.argmax(-1), 0)
        return label(colours, connectivity=2).astype(np.int32)


def alike(logits: Array, labels: Array) -> Array:
    """Loss of neighbouring instances that have the same colour.

        - log(1 - sum_c p_c q_c)

    p and q are the mean colour probabilities of two instances. The colours themselves do not matter, so this
    loss is 0 for every colouring in which neighbours differ.

    Args:
      logits: [H, W, C] float.
      labels: [H, W] int, 0 is background.

    Returns:
      [H, W] float32: at each pixel of an instance, the mean over the other instances at the eight positions
      that are `RADIUS` rows or columns away; 0 where there are none.

    References:
      The adjacency constraint of Disco (https://github.com/SR0920/Disco), which counts pairs.
    """
    labels = jnp.asarray(labels)
    probabilities = jax.nn.softmax(bounded(logits)).reshape(-1, logits.shape[-1])
    # Ids may be larger than any fixed number, but there are no more ids than pixels.
    index = jnp.unique(labels, return_inverse=True, size=labels.size)[1].ravel()
    sums = jax.ops.segment_sum(probabilities, index, labels.size)
    counts = jax.ops.segment_sum(jnp.ones(labels.size), index, labels.size)
    means = (sums / jnp.maximum(counts, 1)[:, None])[index].reshape(logits.shape)
    total = count = jnp.zeros(labels.shape)
    for down in (-RADIUS, 0, RADIUS):
        for right in (-RADIUS, 0, RADIUS):
            others, other_means = _shifted(labels, down, right), _shifted(means, down, right)
            is_pair = (labels > 0) & (others > 0) & (labels != others)
            same = jnp.where(is_pair, (means * other_means).sum(-1), 0)
            total -= jnp.log(1 - same + EPSILON) * is_pair
            count += is_pair
    return total / jnp.maximum(count, 1)


def _shifted(values: Array, down: int, right: int) -> Array:
    """Returns the values `down` rows and `right` columns away; 0 beyond the border."""
    padding = ((RADIUS, RADIUS), (RADIUS, RADIUS), *[(0, 0)] * (values.ndim - 2))
    height, width = values.shape[:2]
    rows, columns = RADIUS + down, RADIUS + right
    return jnp.pad(values, padding)[rows : rows + height, columns : columns + width]
