"""Recall of region proposals at IoU 0.5."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from scipy import ndimage

from segjax.ops.boxes import pairwise_iou
from segjax.segmentation import Segmentation

# Box and object counts are padded to multiples of these, to limit recompilation.
BOXES, OBJECTS = 512, 64

_best = jax.jit(lambda boxes, objects: pairwise_iou(objects, boxes).max(1))


@dataclasses.dataclass(frozen=True)
class ProposalStatistics:
    """Counts over images; adding two pools their images.

    Attributes:
      images: number of images.
      boxes: number of proposals.
      objects: number of true objects of all classes.
      found: number of objects whose box has an IoU of at least 0.5 with that of a proposal.
    """

    images: int
    boxes: int
    objects: int
    found: int

    @classmethod
    def empty(cls) -> ProposalStatistics:
        """Returns the counts of zero images."""
        return cls(0, 0, 0, 0)

    @classmethod
    def of(cls, truth: Segmentation, boxes: np.ndarray) -> ProposalStatistics:
        """Counts one image.

        Args:
          truth: ground truth; its instances are the objects.
          boxes: [P, 4] float, proposals in pixels of the image.
        """
        windows = [window for window in ndimage.find_objects(truth.labels) if window is not None]
        objects = [(along.start, down.start, along.stop, down.stop) for down, along in windows]
        best = _best(_padded(boxes, BOXES), _padded(np.array(objects), OBJECTS))
        hits = np.asarray(best)[: len(objects)] >= 0.5
        return cls(1, len(boxes), len(objects), int(hits.sum()))

    def __add__(self, other: ProposalStatistics) -> ProposalStatistics:
        """Pools the images of both."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return ProposalStatistics(*(one + another for one, another in pairs))

    def compute(self) -> dict[str, float | None]:
        """`mean_count` of proposals in an image and `recall` at IoU 0.5; None where undefined."""
        return {
            "mean_count": self.boxes / self.images if self.images else None,
            "recall": self.found / self.objects if self.objects else None,
        }


def _padded(boxes: np.ndarray, step: int) -> np.ndarray:
    """Pads boxes [P, 4] with empty boxes, which overlap nothing, to a multiple of `step`."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return np.pad(boxes, ((0, max(-len(boxes) % step, step * (not len(boxes)))), (0, 0)))
