"""Resizes a segmentation, from the resolution of a network to that of the image."""

from __future__ import annotations

import numpy as np
from skimage.segmentation import expand_labels
from skimage.transform import resize

from segjax.segmentation.record import Segmentation
from segjax.typing import IGNORE


def resize_segmentation(segmentation: Segmentation, shape: tuple[int, int]) -> Segmentation:
    """Resizes a segmentation; centres of pixels are at half-integers.

    The outline against the background is interpolated linearly, those between instances by nearest
    neighbours. Instances that have no pixel left are dropped.

    Args:
      segmentation: the segmentation of [h, w] pixels.
      shape: `(H, W)` of the result.

    Returns:
      The segmentation of [H, W] pixels, with the same classes and scores.
    """
    if segmentation.shape == shape:
        return segmentation
    labels = _resize(segmentation.labels, shape)
    ids = np.unique(labels[labels > 0])
    return Segmentation.from_labels(
        labels,
        classes=segmentation.classes[ids - 1],
        scores=segmentation.scores[ids - 1],
        semantic=_resize(segmentation.semantic, shape),
    )


def _resize(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resizes a map [h, w] of ids or classes to [H, W] int32."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(shape, values.shape, strict=True)
    )
    ignored = values == IGNORE
    foreground = resize((values > 0).astype(np.float32), shape, order=1, mode="edge", anti_aliasing=False)
    # Beyond the edge of an instance its nearest pixel decides.
    nearest = expand_labels(np.where(ignored, 0, values), 2)[np.ix_(rows, columns)]
    result = np.where(foreground >= 0.5, nearest, 0)
    return np.where(ignored[np.ix_(rows, columns)], IGNORE, result).astype(np.int32)
