"""Names shared by every floor: array types and, once and for all, what the dimension letters mean.

    B  batch          H  height, rows       N  instances, boxes (capacity where shapes are static)
    C  channels       W  width, columns     K  classes, background included
    P  proposals      T  RoIs               S  feature scales

Images are [H, W, C], maps [H, W]; a leading B makes a batch. Boxes are `(x0, y0, x1, y1)` in pixels. `mask`
is a segmentation, `valid` marks what is not padding.
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

# The class of a pixel that neither a loss nor a metric may judge.
IGNORE = -1


class Model(Protocol):
    """What a network is to the rest of segjax: two pure functions."""

    @property
    def init(self) -> Callable[..., Any]:
        """`(key, images [B, H, W, C]) -> {"params": params}`."""

    @property
    def apply(self) -> Callable[..., Any]:
        """`({"params": params}, images [B, H, W, C]) -> outputs`."""
