"""Foreground masks: instances are what hangs together. Asked for explicitly, never taken for granted."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from segjax.data.readers import SUFFIXES, read_image
from segjax.datasets.formats.drawing import Annotations, RawAnnotation, check_shape
from segjax.datasets.formats.labels import JPEG_SUFFIXES
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.errors import InputError

# Between black and white; a JPEG holds every value there is.
JPEG_THRESHOLD = 128


def open_binary(place: AnnotationSource) -> Annotations:
    """One foreground mask for each image; instances are its 8-connected parts."""
    return OneFilePerImage(place.index(SUFFIXES), place.names(), partial(_draw, max_pixels=place.max_pixels))


def foreground(path: Path, *, max_pixels: int) -> np.ndarray:
    """Reads a mask of two values, 0 for background; a JPEG is cut at 128.

    Returns:
      [H, W] bool.

    Raises:
      InputError: if the file holds more values, or no 0 beside two others.
    """
    pixels = read_image(path, max_pixels=max_pixels).max(axis=-1)
    if path.suffix.lower() in JPEG_SUFFIXES:
        return pixels >= JPEG_THRESHOLD
    values = np.unique(pixels)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(f"{value:g}" for value in values[:4])
        raise InputError(
            f"{path} holds {len(values)} values ({shown}{', ...' if len(values) > 4 else ''}), but a mask has"
            " 0 for background and one other; if these are ids use the format labels, else threshold it"
        )
    return pixels != 0


def _draw(path: Path, shape: tuple[int, int], max_pixels: int) -> RawAnnotation:
    mask = foreground(path, max_pixels=max_pixels)
    check_shape(path, mask.shape, shape)
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return RawAnnotation(
        labels.astype(np.int32), {}, (str(path),), lossy=path.suffix.lower() in JPEG_SUFFIXES
    )
