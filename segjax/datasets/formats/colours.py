"""Colour pictures: a colour for each instance, black or transparent where there is none."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from segjax.data.readers import SUFFIXES, read_image, read_labels
from segjax.datasets.formats.drawing import Annotations, RawAnnotation, check_shape
from segjax.datasets.formats.labels import JPEG_SUFFIXES, is_binary, mode_of
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.errors import InputError
from segjax.segmentation import colour_ids


def open_colours(place: AnnotationSource) -> Annotations:
    """One picture for each image; of a palette picture the colours count, not the indices."""
    return OneFilePerImage(place.index(SUFFIXES), place.names(), partial(_draw, max_pixels=place.max_pixels))


def _draw(path: Path, shape: tuple[int, int], max_pixels: int) -> RawAnnotation:
    colours = read_image(path, max_pixels=max_pixels)
    check_shape(path, colours.shape[:2], shape)
    if colours.shape[-1] != 3 or colours.dtype != np.uint8:
        raise InputError(
            f"{path} has {colours.shape[-1]} channels of {colours.dtype}, not 8-bit colours; if it holds ids"
            " use the format labels"
        )
    lossy = path.suffix.lower() in JPEG_SUFFIXES
    # Where a pixel can be transparent, `read_labels` minds it.
    plain = lossy or mode_of(path) == "P"
    labels = colour_ids(colours) if plain else read_labels(path, max_pixels=max_pixels)
    binary = not lossy and is_binary(labels)
    # Colours are no numbers that could have gaps.
    ids, dense = np.unique(labels, return_inverse=True)
    dense = dense.reshape(labels.shape).astype(np.int32) + (ids[0] != 0)
    return RawAnnotation(dense, {}, (str(path),), lossy=lossy, binary=binary)
