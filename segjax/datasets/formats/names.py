"""What the names of files say: which file is an annotation, of which image, and which is neither."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

# Endings that programs append to the name of an image to name its annotation.
SUFFIXES = (
    *("_mask", "_masks", "-mask", "_label", "_labels", "-labels", "-labelled", "_instances", "_gt"),
    *("_seg", "_cp_masks", "_anno", "_rois"),
)
# Endings of images whose annotation has another ending, as in `a_image` and `a_mask`; nnU-Net appends the
# number of the channel.
IMAGE_SUFFIXES = ("_image", "_img", "_raw", "-image", "_0000")
# Part of the name of an OME-TIFF that is not part of the name of its image.
OME = ".ome"
# Endings of what Cellpose writes beside an image. Apart from `_seg` and `_cp_masks` it is no annotation.
PICTURES = ("_flows", "_cp_flows", "_dP", "_cp_output", "_outlines", "_cp_outlines", "_cp_ncolor_masks")
CELLPOSE = ("_seg", "_cp_masks", *PICTURES)
IMAGE_FOLDER = "images"
# Siblings of the folder of images.
MASK_FOLDERS = ("masks", "labels", "annotations")
# The folders of masks by the folder of images that is their sibling, also those of VOC and nnU-Net.
SIBLINGS = {
    IMAGE_FOLDER: MASK_FOLDERS,
    "image": ("mask", "label"),
    "JPEGImages": ("SegmentationObject", "SegmentationClass"),
    "imagesTr": ("labelsTr",),
    "imagesTs": ("labelsTs",),
}


def base_name(key: str) -> str:
    """Returns the part of the key of an image that its annotation has too, to compare names of any program.

    Equal characters have several encodings: macOS stores an accent as a character of its own.

    >>> base_name("Plate/A1.ome"), base_name("plate/a1_image")
    ('plate/a1', 'plate/a1')
    """
    return _without_ending(unicodedata.normalize("NFC", key).casefold().removesuffix(OME), IMAGE_SUFFIXES)


def without_suffix(stem: str, suffixes: Sequence[str]) -> str:
    """Returns the name of the image of an annotation file, its own name if it has none of the suffixes.

    >>> without_suffix("plate/a_cp_masks", SUFFIXES), without_suffix("_mask", SUFFIXES)
    ('plate/a', '_mask')
    """
    plain = stem.removesuffix(OME)
    base = _without_ending(plain, suffixes)
    return stem if base == plain else base


def annotations_among(keys: Collection[str], suffixes: Sequence[str] = SUFFIXES) -> set[str]:
    """Returns the keys of the pictures that are annotations.

    Args:
      keys: paths of the pictures, without suffix, with `/` as separator.
      suffixes: endings that an annotation may append to the name of its image.

    Returns:
      The keys that lie in a folder of masks next to a folder of images, that have the name of another picture
      with a suffix, or that Cellpose writes for another picture.
    """
    parts_by_key = {key: key.split("/") for key in keys}
    folders = {
        tuple(parts[: depth + 1]) for parts in parts_by_key.values() for depth in range(len(parts) - 1)
    }
    names = {base_name(key) for key in keys}

    def is_annotation(key: str) -> bool:
        bases = {without_suffix(key, [suffix]) for suffix in (*suffixes, *CELLPOSE)} - {key}
        return not names.isdisjoint(map(base_name, bases)) or any(
            part in masks and (*parts_by_key[key][:depth], images) in folders
            for depth, part in enumerate(parts_by_key[key][:-1])
            for images, masks in SIBLINGS.items()
        )

    return {key for key in keys if is_annotation(key)}


def pictures_by_cellpose(keys: Collection[str], suffixes: Sequence[str]) -> set[str]:
    """Returns the keys of flows and outlines of which the image, or an annotation of it, is there too."""
    names = {base_name(without_suffix(key, suffixes)) for key in keys}
    bases = ((key, without_suffix(key, PICTURES)) for key in keys)
    return {key for key, base in bases if base != key and base_name(base) in names}


def without_masks(images: Mapping[str, Path], suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """Removes the annotations, see `annotations_among`, from the pictures of a folder, by key."""
    annotations = annotations_among(images, suffixes)
    return {key: path for key, path in images.items() if key not in annotations}


def _without_ending(name: str, endings: Sequence[str]) -> str:
    """Removes the longest of the endings, unless nothing would be left."""
    for ending in sorted(endings, key=len, reverse=True):
        if name.endswith(ending) and name.rpartition("/")[2] != ending:
            return name.removesuffix(ending)
    return name
