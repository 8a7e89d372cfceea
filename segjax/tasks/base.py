"""The contract of a task: four pure functions that training and prediction are written against."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from segjax.segmentation import Segmentation
from segjax.typing import Array, Batch, Outputs, Params, PyTree


class Task(NamedTuple):
    """Four pure functions and what must not be trained.

    Attributes:
      init: `(key, batch) -> params`; only the shapes of the batch matter.
      loss: `(params, batch, key) -> (loss [], {term: value []})`, on the device, differentiable.
      predict: `(params, images [B, H, W, C]) -> outputs`, on the device; each output leads with B, H, W.
      segment: `outputs of one image, as NumPy [H, W, ...] -> Segmentation`; the only one on the host.
      frozen: `params -> tree of bool`, True for the leaves that no optimizer may change.
    """

    init: Callable[[Array, Batch], Params]
    loss: Callable[[Params, Batch, Array], tuple[Array, Mapping[str, Array]]]
    predict: Callable[[Params, Array], Outputs]
    segment: Callable[[Outputs], Segmentation]
    frozen: Callable[[Params], PyTree]
