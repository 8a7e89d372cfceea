"""Writes segmentations to files that ImageJ, QuPath and napari open."""

from pathlib import Path

import numpy as np
import tifffile

from segjax.segmentation import Segmentation
from segjax.typing import IGNORE


def write_label_images(segmentation: Segmentation, stem: Path) -> tuple[Path, Path]:
    """Writes `<stem>_labels.tif` and `<stem>_classes.tif`.

    Returns:
      The paths of the instance ids (uint16, or uint32 above 65,535 instances) and of the class of each pixel
      (uint8, 255 where it is `IGNORE`).
    """
    labels, classes = (stem.with_name(f"{stem.name}_{content}.tif") for content in ("labels", "classes"))
    dtype = np.uint16 if segmentation.num_instances < 2**16 else np.uint32
    tifffile.imwrite(labels, segmentation.labels.astype(dtype), compression="zlib")
    semantic = np.where(segmentation.semantic == IGNORE, 255, segmentation.semantic)
    tifffile.imwrite(classes, semantic.astype(np.uint8), compression="zlib")
    return labels, classes
