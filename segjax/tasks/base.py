"""The interface of a task: `init`, `loss`, `predict`, `segment`, and the targets they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from segjax.segmentation import Segmentation
from segjax.typing import Array, Batch, Outputs, Params


class Task(Protocol):
    """A network with its loss and its post-processing.

    Training and prediction are written against this interface. All functions are pure; `segment` is the only
    one that runs on the host.
    """

    @property
    def targets(self) -> frozenset[str]:
        """The optional keys of a batch that `loss` reads, see `segjax.typing.Batch`."""

    @property
    def stride(self) -> int:
        """Stride of the network's coarsest features, pixels; windows of an image start at its multiples."""

    def init(self, key: Array, batch: Batch) -> Params:
        """Returns initial parameters; only the shape of `batch["image"]` matters."""

    def loss(self, params: Params, batch: Batch, key: Array) -> tuple[Array, Mapping[str, Array]]:
        """Returns the loss [] and its terms, each [], on the device and differentiable."""

    @property
    def predict(self) -> Callable[..., Outputs]:
        """`(params, images [B, H, W, C]) -> outputs`, maps [B, H, W, ...], or for detectors lists [B, ...].

        Detectors take further arguments, see `DetectionTask.predict`.
        """

    def segment(self, outputs: Outputs) -> Segmentation:
        """Converts the outputs for one image, NumPy arrays without B, to its segmentation.

        If they are lists of objects, they have a further key, "shape", the `(H, W)` of the image.
        """
