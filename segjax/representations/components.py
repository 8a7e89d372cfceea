"""Connected pixels of a class are one instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np
from scipy.ndimage import label

from segjax.representations.base import DecoderConfig
from segjax.typing import Array, Batch


class Components:
    """No output beside the classes; see `Representation`. Touching instances of a class become one."""

    channels = 0
    vectors = False
    grid: Mapping[str, Sequence[float]] = MappingProxyType({})
    targets: frozenset[str] = frozenset()

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Returns 0 [B, H, W]."""
        del outputs
        return jnp.zeros(batch["labels"].shape)

    def activate(self, outputs: Array) -> Array:
        """Returns the outputs [B, H, W, 0]."""
        return outputs

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Returns no channel, [H, W, 0]."""
        return np.zeros((*labels.shape, 0), np.float32)

    def decode(self, foreground: np.ndarray, values: np.ndarray, config: DecoderConfig) -> np.ndarray:
        """Labels the connected parts of the foreground, [H, W] int32."""
        del values, config
        return label(foreground)[0].astype(np.int32)
