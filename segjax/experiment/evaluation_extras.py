"""Further measurements of the evaluation of a run: proposals, boxes, and the interval of the count."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from segjax.data.channels import match_channels
from segjax.data.records import Source
from segjax.data.subset import evenly
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.remembering import Memory
from segjax.experiment.setup import open_split
from segjax.metrics.counting import CountInterval
from segjax.metrics.counts import pooled
from segjax.metrics.detections import DetectionCounts, Detections, detection_scores
from segjax.metrics.proposals import ProposalStatistics
from segjax.train.processes import spread

# Smallest number of validation images for an interval of 90 %, and the largest number that is used.
MIN_IMAGES, MAX_IMAGES = 9, 100
DETECTIONS, PROPOSALS = ("boxes", "classes", "scores"), "proposals"


def evaluate_detector(
    opened: OpenedMethod, source: Source, memory: Memory
) -> tuple[dict[str, float | None], dict[str, Any]]:
    """Returns number and recall of the region proposals of a split, and the scores of the boxes.

    Args:
      opened: the detector.
      source: the split.
      memory: remembers boxes and proposals.
    """
    detector: Any = opened.method

    def count_one(index: int) -> tuple[ProposalStatistics, DetectionCounts]:
        record = source[index]
        image = match_channels(record.image, opened.channels, name=record.name)

        def compute() -> dict[str, np.ndarray]:
            outputs = detector.detect(image)
            boxes = {name: np.asarray(outputs[name]) for name in DETECTIONS}
            return {**boxes, PROPOSALS: np.asarray(detector.propose(image))}

        digest = opened.digest and f"{opened.digest} boxes"
        arrays = memory.arrays(digest, image, compute, (*DETECTIONS, PROPOSALS))
        detections = Detections(*(arrays[name] for name in DETECTIONS))
        boxes = DetectionCounts.of(record.truth, detections, source.class_names, name=record.name)
        return ProposalStatistics.of(record.truth, arrays[PROPOSALS]), boxes

    counts = spread(count_one, len(source), "the evaluation of the proposals")
    proposals = pooled([one for one, _ in counts], ProposalStatistics.empty()).compute()
    return proposals, detection_scores([boxes for _, boxes in counts], source.class_names)


def count_proposals(opened: OpenedMethod, source: Source) -> list[ProposalStatistics]:
    """Returns the counts of the region proposals of each image of a split.

    Args:
      opened: a detector.
      source: the split.
    """
    detector: Any = opened.method

    def count_one(index: int) -> ProposalStatistics:
        record = source[index]
        image = match_channels(record.image, opened.channels, name=record.name)
        return ProposalStatistics.of(record.truth, detector.propose(image))

    return spread(count_one, len(source), "the evaluation of the proposals")


def fit_count_interval(opened: OpenedMethod, config: ConfigDict, split: str) -> CountInterval | None:
    """Fits the interval of the number of instances to at most 100 validation images.

    These images also chose the checkpoint and the settings of the decoder, so that the level of the interval
    is approximate, see `CountInterval`.

    Args:
      opened: the method.
      config: the config of its run.
      split: the split that is evaluated.

    Returns:
      The interval. None for the validation split, because the interval is fitted to its images, or if there
      are too few validation images.
    """
    validation = open_split(config, "validation")
    if split == "validation" or len(validation) < MIN_IMAGES:
        return None
    images = evenly(validation, MAX_IMAGES)

    def count_one(index: int) -> tuple[int, int]:
        record = images[index]
        return record.truth.num_instances, opened(record.image).num_instances

    counts = spread(count_one, len(images), "the interval of the count")
    return CountInterval.fit([true for true, _ in counts], [predicted for _, predicted in counts])
