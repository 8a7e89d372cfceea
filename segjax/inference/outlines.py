"""Pixels of detected objects for networks without a mask head: regions of classical methods in their boxes.

R-CNN's proposals come from regions, and the R-CNN paper segments by classifying them
(https://arxiv.org/abs/1311.2524, section 5).
"""

from __future__ import annotations

import numpy as np

from segjax.classical.region_proposals import watershed_regions
from segjax.classical.watershed import watershed
from segjax.segmentation.masks import Cutout
from segjax.segmentation.paste_masks import paste_mask

# A region is the outline of an object if the IoU of their boxes is at least this.
MIN_IOU = 0.5


def classical_outlines(image: np.ndarray, boxes: np.ndarray) -> dict[str, list[Cutout]]:
    """Returns the pixels of each detection, by the name of the kind of outline.

    Args:
      image: [H, W, C] as it was read.
      boxes: [N, 4] float32, pixels.

    Returns:
      "ellipse": the ellipse in the box. "region": the region of a watershed whose box fits best.
      "foreground": the foreground of the reference inside the box. Without a region or foreground, the
      ellipse.
    """
    shape = image.shape[:2]
    ellipses = [_cut(*paste_mask(box, None, shape)) for box in boxes]
    regions = watershed_regions(image)
    by_region = list(ellipses)
    if regions and len(boxes):
        region_boxes = np.array([region.box for region in regions], np.float32)
        iou = _pairwise_iou(np.asarray(boxes, np.float32), region_boxes)
        best = iou.argmax(1)
        by_region = [
            regions[best[index]] if iou[index, best[index]] >= MIN_IOU else ellipse
            for index, ellipse in enumerate(ellipses)
        ]
    foreground = watershed(image).foreground
    inside = [Cutout.of(foreground[ellipse.window], ellipse.top, ellipse.left) for ellipse in ellipses]
    by_foreground = [
        cutout if cutout.mask.any() else ellipse for cutout, ellipse in zip(inside, ellipses, strict=True)
    ]
    return {"ellipse": ellipses, "region": by_region, "foreground": by_foreground}


def _pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the IoU [N, M] of boxes [N, 4] and [M, 4]; on the host, as their numbers vary."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-6)


def _cut(rows: slice, columns: slice, mask: np.ndarray) -> Cutout:
    return Cutout(rows.start, columns.start, mask)
