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
      predict: `(params, images [B, H, W, C]) -> outputs`, on the device; each output leads with B, H, W if
        they are maps, else with B.
      segment: `outputs of one image, as NumPy -> Segmentation`; the only one on the host. What are no maps
        come with "shape", the `(H, W)` of the image.
      frozen: `params -> tree of bool`, True for the leaves that no optimizer may change.
      maps: whether outputs are maps, which windows of an image are blended from, or lists of objects, which
        are joined.
      proposals: whether `predict` has to be given boxes in which to look.
      propose: `(params, images [B, H, W, C], size) -> outputs` as of `predict`, the boxes in which it looks
        on its own; None if there are none.
      describe: `(params, images [1, H, W, C], boxes [1, T, 4]) -> features [1, T, D]` of boxes, None where a
        task has no boxes.
    """

    init: Callable[[Array, Batch], Params]
    loss: Callable[[Params, Batch, Array], tuple[Array, Mapping[str, Array]]]
    predict: Callable[..., Outputs]
    segment: Callable[[Outputs], Segmentation]
    frozen: Callable[[Params], PyTree]
    maps: bool = True
    proposals: bool = False
    propose: Callable[..., Outputs] | None = None
    describe: Callable[[Params, Array, Array], Array] | None = None
