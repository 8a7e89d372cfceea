"""Recall of region proposals at IoU 0.5."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from segjax.metrics.counts import Counts
from segjax.ops.boxes import pairwise_iou
from segjax.segmentation import Segmentation

# Box and object counts are padded to multiples of these, to limit recompilation.
BOXES, OBJECTS = 512, 64

_best_iou = jax.jit(lambda boxes, objects: pairwise_iou(objects, boxes).max(1))


@dataclasses.dataclass(frozen=True)
class ProposalStatistics(Counts):
    """Counts of proposals and of the objects that they cover.

    Attributes:
      images: number of images.
      boxes: number of proposals.
      objects: number of true objects of all classes.
      recalled: number of objects whose box has an IoU of at least 0.5 with that of a proposal.
    """

    images: int
    boxes: int
    objects: int
    recalled: int

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
        best = _best_iou(_padded(boxes, BOXES), _padded(truth.boxes, OBJECTS))
        recalled = np.asarray(best)[: truth.num_instances] >= 0.5
        return cls(1, len(boxes), truth.num_instances, int(recalled.sum()))

    def compute(self) -> dict[str, float | None]:
        """Returns `mean_count`, proposals per image, and `recall` at IoU 0.5; None where undefined."""
        return {
            "mean_count": self.boxes / self.images if self.images else None,
            "recall": self.recalled / self.objects if self.objects else None,
        }


def _padded(boxes: np.ndarray, step: int) -> np.ndarray:
    """Pads boxes [P, 4] with empty boxes, which overlap nothing, to a multiple of `step`."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return np.pad(boxes, ((0, max(-len(boxes) % step, step * (not len(boxes)))), (0, 0)))
