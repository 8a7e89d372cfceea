"""Baseline method: Otsu threshold, then watershed of the distance map.

It is the reference for all other methods and uses only the brightness and roundness of cells.
"""

from __future__ import annotations

import numpy as np

from segjax.classical.contrast import contrast, otsu_foreground
from segjax.classical.scale import at_scale
from segjax.classical.settings import Watershed
from segjax.classical.splitting import split_at_peaks
from segjax.classical.stages import Stages
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import weighted_median
from segjax.segmentation.split_touching import background_distance


def watershed(image: np.ndarray, settings: Watershed = Watershed()) -> Stages:
    """Segments the foreground by brightness and splits it where it narrows.

    `contrast` reduces the image to one map, `otsu_foreground` thresholds it and `split_at_peaks` splits the
    foreground.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      settings: see `Watershed`.

    Returns:
      The stages. The segmentation is empty if the image has no contrast.

    Raises:
      InputError: if the image is not [H, W, C], has no pixel, or holds NaN or infinity.
    """
    intensity = contrast(image, bright=settings.bright, stained=settings.stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    settings = at_scale(settings, intensity)
    foreground = otsu_foreground(
        intensity,
        settings,
        sigma=settings.sigma,
        window=settings.window,
        fraction=settings.threshold_fraction,
    )
    labels, seeds, smooth = split_at_peaks(background_distance(foreground), foreground, settings)
    areas = np.bincount(labels.ravel())[1:]
    small = areas < settings.small_fraction * weighted_median(areas, areas)
    segmentation = Segmentation.from_labels(labels, classes=np.where(small, settings.small_class, 1))
    return Stages({"contrast": intensity, "distance": smooth}, foreground, seeds, segmentation)
