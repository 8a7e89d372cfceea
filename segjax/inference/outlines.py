"""Pixels of detected objects for networks without a mask head: regions of classical methods in their boxes.

R-CNN's proposals come from regions, and the R-CNN paper segments by classifying them
(https://arxiv.org/abs/1311.2524, section 5).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segjax.classical.region_proposals import watershed_regions
from segjax.classical.watershed import watershed
from segjax.segmentation.masks import Cutout
from segjax.segmentation.paste_masks import paste_masks
from segjax.tasks.host_boxes import pairwise_iou

# A region is the outline of an object if the IoU of their boxes is at least this.
MIN_IOU = 0.5


def classical_outlines(image: np.ndarray, boxes: np.ndarray, kind: str) -> list[Cutout]:
    """Returns the pixels of each detection.

    Args:
      image: [H, W, C] as it was read.
      boxes: [N, 4] float32, pixels.
      kind: one of `OUTLINES`. "ellipse": the ellipse in the box. "region": the region of a watershed whose
        box fits best. "foreground": the foreground of the reference inside the box. Without a region or
        foreground, the ellipse.
    """
    ellipses = [*paste_masks(boxes, None, image.shape[:2])]
    return OUTLINES[kind](image, np.asarray(boxes, np.float32), ellipses) if ellipses else []


def _regions(image: np.ndarray, boxes: np.ndarray, ellipses: list[Cutout]) -> list[Cutout]:
    regions = watershed_regions(image)
    if not regions:
        return ellipses
    iou = pairwise_iou(boxes, np.array([region.box for region in regions], np.float32))
    best = iou.argmax(1)
    return [
        regions[best[index]] if iou[index, best[index]] >= MIN_IOU else ellipse
        for index, ellipse in enumerate(ellipses)
    ]


def _foregrounds(image: np.ndarray, boxes: np.ndarray, ellipses: list[Cutout]) -> list[Cutout]:
    del boxes
    foreground = watershed(image).foreground
    inside = [Cutout.of(foreground[ellipse.window], ellipse.top, ellipse.left) for ellipse in ellipses]
    return [
        cutout if cutout.mask.any() else ellipse for cutout, ellipse in zip(inside, ellipses, strict=True)
    ]


def _ellipses(image: np.ndarray, boxes: np.ndarray, ellipses: list[Cutout]) -> list[Cutout]:
    del image, boxes
    return ellipses


OUTLINES: dict[str, Callable[[np.ndarray, np.ndarray, list[Cutout]], list[Cutout]]] = {
    "ellipse": _ellipses,
    "region": _regions,
    "foreground": _foregrounds,
}
