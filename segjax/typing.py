"""Shared array types, and the meaning of the dimension letters used in all docstrings.

    B  batch          H  height, rows       N  instances, boxes (capacity where shapes are static)
    C  channels       W  width, columns     K  classes, background included
    P  proposals      T  RoIs               S  feature scales

Images are [H, W, C], maps [H, W]; a leading B makes a batch. Boxes are `(x0, y0, x1, y1)` in pixels. `mask`
is a segmentation mask, `valid` is False for padding.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypedDict

import jax
import numpy as np

Array = jax.Array | np.ndarray
PyTree = Any
Params = Mapping[str, Any]
Outputs = Mapping[str, Array]


class Batch(TypedDict, total=False):
    """A training batch; an example is the same without B.

    A stream makes `image`, `labels` and `semantic`, and the others if the task needs them.

    Attributes:
      image: [B, H, W, C] float32, preprocessed.
      labels: [B, H, W] int32, instance ids from 1, 0 for background.
      semantic: [B, H, W] int32, the class of each pixel, 0 for background, `IGNORE` where losses ignore it.
      distance: [B, H, W] float32, see `segjax.data.targets.instance_distance`.
      poisson: [B, H, W] float32, see `segjax.data.targets.instance_poisson`.
      diffusion: [B, H, W] float32, see `segjax.data.targets.instance_diffusion`.
      colours: [B, H, W] int32, see `segjax.data.colouring.instance_colours`; 0 also where it is unknown.
      classes: [B, N] int32, the class of instances 1..N in `labels`, 0 for ids that are absent.
      proposals: [B, P, 4] float32, external region proposals, pixels.
      proposals_valid: [B, P] bool, False for padding.
    """

    image: Array
    labels: Array
    semantic: Array
    distance: Array
    poisson: Array
    diffusion: Array
    colours: Array
    classes: Array
    proposals: Array
    proposals_valid: Array


# The class of pixels that losses and metrics ignore.
IGNORE = -1


class Model(Protocol):
    """Interface of a network: two pure functions, and a number of pixels."""

    @property
    def stride(self) -> int:
        """Stride of the coarsest features, pixels."""

    @property
    def init(self) -> Callable[..., Any]:
        """`(key, images [B, H, W, C]) -> {"params": params}`."""

    @property
    def apply(self) -> Callable[..., Any]:
        """`({"params": params}, images [B, H, W, C]) -> outputs`."""
