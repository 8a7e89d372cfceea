"""Region proposals without learning, for R-CNN and Fast R-CNN."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from segjax.classical.contrast import stretch
from segjax.classical.settings import REFERENCE_DIAMETER, Watershed
from segjax.classical.watershed import watershed
from segjax.errors import InputError
from segjax.segmentation.masks import Cutout

# Selective search: standard deviation of the initial blur in pixels, and scale of the over-segmentations,
# used as base and as increment. A larger scale is coarser.
SIGMA, SCALE = 0.8, 50
# `gamma` and `window` of the watersheds, from dim cells to bright ones, and their other settings, which do
# not depend on the diameter of the cells. They were chosen among 13 exponents, two `h` and local thresholds
# on the validation images of BBBC038: 0.85 of the nuclei have a region with an IoU of 0.5, with all 0.87.
WATERSHEDS = ((0.2, 0), (0.6, 0), (1.4, 0), (2.0, 0), (0.7, 25))
FIXED = Watershed(diameter=REFERENCE_DIAMETER, smoothing=1.0, h=0.5, max_hole=0)


def selective_search(image: np.ndarray, *, min_side: int = 3, max_fraction: float = 0.25) -> np.ndarray:
    """Merges the most similar regions of an over-segmentation step by step and proposes every region.

    Args:
      image: [H, W, C] uint8, uint16 or float32.
      min_side: smallest box width and height, pixels.
      max_fraction: largest box area, as a fraction of the image.

    Returns:
      [P, 4] float32 boxes `(x0, y0, x1, y1)` in pixels, without duplicates.

    Raises:
      InputError: if OpenCV's contributed modules are not installed.

    References:
      Uijlings et al., https://doi.org/10.1007/s11263-013-0620-5. OpenCV implements it; this is the fast mode
      that R-CNN used, with the colour spaces HSV and Lab and two similarities.
    """
    try:
        from cv2 import ximgproc
    except ImportError as error:
        raise InputError(
            'selective search needs OpenCV: pip install "segjax[proposals]", or choose'
            " config.proposals.method=watershed"
        ) from error
    search = ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(_as_photograph(image))
    search.switchToSelectiveSearchFast(SCALE, SCALE, SIGMA)
    proposals = np.asarray(search.process(), np.float32).reshape(-1, 4)
    boxes = np.concatenate([proposals[:, :2], proposals[:, :2] + proposals[:, 2:]], axis=1)
    return _select(boxes, image.shape[:2], min_side, max_fraction)


def watershed_proposals(image: np.ndarray, *, min_side: int = 3, max_fraction: float = 0.25) -> np.ndarray:
    """Proposes every instance of several watersheds, for dim cells to bright ones.

    If cells stand out from the background, the recall is higher than that of selective search, with a tenth
    of the boxes.

    Args:
      image: [H, W, C] uint8, uint16 or float32.
      min_side: smallest box width and height, pixels.
      max_fraction: largest box area, as a fraction of the image.

    Returns:
      [P, 4] float32 boxes `(x0, y0, x1, y1)` in pixels, without duplicates.
    """
    regions = watershed_regions(image, min_area=min_side**2)
    boxes = np.array([region.box for region in regions], np.float32).reshape(-1, 4)
    return _select(boxes, image.shape[:2], min_side, max_fraction)


def watershed_regions(image: np.ndarray, *, min_area: int = 9) -> list[Cutout]:
    """Returns the pixels of every instance of several watersheds, for dim cells to bright ones.

    Args:
      image: [H, W, C] uint8, uint16 or float32.
      min_area: smallest number of pixels of a region.
    """
    regions = []
    for gamma, window in WATERSHEDS:
        settings = dataclasses.replace(FIXED, gamma=gamma, window=window, min_area=min_area)
        labels = watershed(image, settings).segmentation.labels
        for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            regions.append(Cutout(rows.start, columns.start, labels[rows, columns] == index))
    return regions


def both(image: np.ndarray) -> np.ndarray:
    """Returns the boxes [P, 4] of both methods."""
    return np.unique(np.concatenate([watershed_proposals(image), selective_search(image)]), axis=0)


PROPOSALS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "selective_search": selective_search,
    "watershed": watershed_proposals,
    "both": both,
}


def _as_photograph(image: np.ndarray) -> np.ndarray:
    """Converts to [H, W, 3] uint8 BGR for OpenCV; grey unless there are three channels."""
    channels = image if image.shape[-1] == 3 else image.astype(np.float32).mean(-1, keepdims=True)
    stretched = [stretch(channels[..., index].astype(np.float32)) for index in range(channels.shape[-1])]
    grey = np.zeros(image.shape[:2], np.float32)
    planes = [np.round(255 * (grey if plane is None else plane)).astype(np.uint8) for plane in stretched]
    return np.stack(planes[::-1] if len(planes) == 3 else planes * 3, axis=-1)


def _select(boxes: np.ndarray, shape: tuple[int, ...], min_side: int, max_fraction: float) -> np.ndarray:
    """Returns the distinct boxes [P, 4] within the size limits."""
    sides = boxes[:, 2:] - boxes[:, :2]
    selected = (sides >= min_side).all(1) & (sides.prod(1) <= max_fraction * shape[0] * shape[1])
    return np.unique(boxes[selected], axis=0)
