"""Settings of `DetectionTask`; the defaults are those of configs/rcnn.py."""

from __future__ import annotations

import dataclasses

from segjax.errors import InputError
from segjax.ops.detection import DetectConfig, ProposeConfig
from segjax.settings import Count, Fraction, NonNegative, NonNegativeInt, Settings


@dataclasses.dataclass(frozen=True)
class SamplingConfig(Settings):
    """Settings of `sample`, which selects the boxes of an image for a loss.

    Attributes:
      high: minimum IoU of a positive box with an object.
      low: a box whose IoU with every object is below this is negative.
      batch_size: number of boxes that are sampled per image.
      positive_fraction: maximum fraction of positive boxes in the sample.
    """

    high: Fraction = 0.5
    low: Fraction = 0.5
    batch_size: Count = 256
    positive_fraction: Fraction = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise InputError(f"low={self.low} must be at most high={self.high}", field="low")


@dataclasses.dataclass(frozen=True)
class LossWeights(Settings):
    """Weights of the loss terms: RPN classes and boxes, RoI classes and boxes, masks."""

    objectness: NonNegative = 1.0
    proposals: NonNegative = 1.0
    classes: NonNegative = 1.0
    boxes: NonNegative = 1.0
    masks: NonNegative = 1.0


@dataclasses.dataclass(frozen=True)
class DetectionConfig(Settings):
    """Settings of `DetectionTask`.

    Capacities are static: memory and time depend on them, not on the image.

    Attributes:
      propose: selection of the RPN's proposals.
      anchors: sampling of anchors for the RPN's loss. The anchors with the highest IoU with an object
        are positive, too.
      rois: sampling of RoIs for the loss of the heads. Positive RoIs also contribute to the mask loss.
      detect: selection of the detections. Every remaining detection counts as an object, so the score
        threshold is higher than the usual 0.05, which is meant for precision-recall curves.
      suppression: `boxes`, or `masks` to suppress by mask IoU as well.
      mask_nms: mask IoU above which the lower-scoring detection is suppressed.
      mask_threshold: minimum probability of the pixels of a mask.
      outline: pixels of an object of a network without a mask head: `region`, `foreground` or `ellipse`, see
        `segjax.inference.outlines`.
      max_overlap: an instance that shares more than this fraction of its pixels, or of those of a better one,
        with the better one is left out.
      min_area: minimum number of visible pixels of an instance.
      classifier: `softmax` keeps the trained layers; `svm` replaces them after training, see `rcnn_svm`.
      weights: weights of the loss terms.
    """

    propose: ProposeConfig = ProposeConfig()
    anchors: SamplingConfig = SamplingConfig(high=0.7, low=0.3, positive_fraction=0.5)
    rois: SamplingConfig = SamplingConfig()
    detect: DetectConfig = DetectConfig()
    suppression: str = "boxes"
    mask_nms: Fraction = 0.3
    mask_threshold: Fraction = 0.5
    outline: str = "region"
    max_overlap: Fraction = 0.5
    min_area: NonNegativeInt = 5
    classifier: str = "softmax"
    weights: LossWeights = LossWeights()
