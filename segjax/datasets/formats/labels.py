"""Label images: a whole number for each pixel, the id of its instance; of a palette picture the indices."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from segjax.data.readers import PILLOW_SUFFIXES, SUFFIXES, read_image, read_labels
from segjax.datasets.formats.drawing import Annotations, RawAnnotation, check_shape
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage

JPEG_SUFFIXES = (".jpg", ".jpeg")


def open_labels(place: AnnotationSource) -> Annotations:
    """One label image for each image; colour pictures are read as `colours` are."""
    return OneFilePerImage(place.index(SUFFIXES), place.names(), partial(_draw, max_pixels=place.max_pixels))


def is_binary(labels: np.ndarray) -> bool:
    """Whether a label map cannot tell instances apart: one id alone, in several 8-connected parts.

    A map of one id in one part is an image with one cell, whatever the id.

    Args:
      labels: [H, W] integer, 0 is background.
    """
    foreground = labels != 0
    if not foreground.any() or (labels[foreground] != labels[foreground][0]).any():
        return False
    return ndimage.label(foreground, structure=np.ones((3, 3)))[1] > 1


def mode_of(path: Path) -> str | None:
    """What Pillow calls a picture's kind of pixels, such as P for a palette; None of other files.

    Args:
      path: a file that `read_image` or `read_labels` has read.
    """
    if path.suffix.lower() not in PILLOW_SUFFIXES:
        return None
    with Image.open(path, formats=("PNG", "JPEG", "BMP")) as picture:
        return picture.mode


def _draw(path: Path, shape: tuple[int, int], max_pixels: int) -> RawAnnotation:
    if path.suffix.lower() in JPEG_SUFFIXES:
        # To be shown to the user, who is told that these ids are not what was drawn.
        labels = read_image(path, max_pixels=max_pixels).max(axis=-1).astype(np.int32)
        check_shape(path, labels.shape, shape)
        return RawAnnotation(labels, {}, (str(path),), lossy=True)
    labels = read_labels(path, max_pixels=max_pixels)
    check_shape(path, labels.shape, shape)
    return RawAnnotation(labels, {}, (str(path),), binary=is_binary(labels))
