"""Readers of image and label-map files (TIFF, PNG, JPEG, BMP, WebP, NPY)."""

from segjax.data.readers.image import describe_other_images, is_lossy, read_image, read_labels
from segjax.data.readers.limits import (
    JPEG_SUFFIXES,
    MAX_PIXELS,
    NO_PLANES,
    PILLOW_SUFFIXES,
    SUFFIXES,
    TIFF_SUFFIXES,
    File,
    kind_of_damage,
    unreadable,
)
from segjax.data.readers.raster import open_picture, palette_alpha
from segjax.data.readers.stacks import StackAxis, find_stack_axis
from segjax.data.readers.tiff import has_palette

__all__ = [
    "JPEG_SUFFIXES",
    "MAX_PIXELS",
    "NO_PLANES",
    "PILLOW_SUFFIXES",
    "SUFFIXES",
    "TIFF_SUFFIXES",
    "File",
    "StackAxis",
    "describe_other_images",
    "find_stack_axis",
    "has_palette",
    "is_lossy",
    "kind_of_damage",
    "open_picture",
    "palette_alpha",
    "read_image",
    "read_labels",
    "unreadable",
]
