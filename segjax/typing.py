"""Shared array types, and the meaning of the dimension letters used in all docstrings.

    B  batch          H  height, rows       N  instances, boxes (capacity where shapes are static)
    C  channels       W  width, columns     K  classes, background included
    P  proposals      T  RoIs               S  feature scales

Images are [H, W, C], maps [H, W]; a leading B makes a batch. Boxes are `(x0, y0, x1, y1)` in pixels. `mask`
is a segmentation mask, `valid` is False for padding.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

Array = jax.Array | np.ndarray
PyTree = Any
Params = Mapping[str, Any]
Outputs = Mapping[str, Array]

# One training batch: named arrays, each with a leading B.
Batch = Mapping[str, Array]

# The class of pixels that losses and metrics ignore.
IGNORE = -1


class Model(Protocol):
    """Interface of a network: two pure functions."""

    @property
    def init(self) -> Callable[..., Any]:
        """`(key, images [B, H, W, C]) -> {"params": params}`."""

    @property
    def apply(self) -> Callable[..., Any]:
        """`({"params": params}, images [B, H, W, C]) -> outputs`."""
