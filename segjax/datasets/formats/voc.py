"""Pascal VOC: a PNG of classes and a PNG of objects for each image, 255 for the void along outlines."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np

from segjax.data.readers import read_labels
from segjax.datasets.formats.drawing import Annotations, RawAnnotation, check_shape
from segjax.datasets.formats.labels import mode_of
from segjax.datasets.formats.layout import AnnotationSource, FileIndex, OneFilePerImage
from segjax.errors import InputError

OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"
VOID = 255
# Lists of class names that tools leave beside the folders; the part before a colon is the name.
NAME_FILES = ("class_names.txt", "labelmap.txt", "labels.txt")
MAX_NAMES_BYTES = 2**16


def open_voc(place: AnnotationSource) -> Annotations:
    """Pairs of pictures of one name, whose palette indices (or whose colours in VOC's palette) are read.

    Classes are named by the user or by a list beside the folders; else they are `class 1`, `class 2`, ... A
    pixel of class 255, or of a class without an object, is to be ignored.
    """
    folders = [place.path / OBJECTS, place.path / CLASSES]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is missing; VOC has a folder {OBJECTS} and a folder {CLASSES}")
    objects, classes = (dataclasses.replace(place, path=folder).index([".png"]) for folder in folders)
    names = place.class_names or place.names(_listed(place.path) or _numbered(classes, place.max_pixels))
    return OneFilePerImage(
        objects,
        names,
        partial(_draw, root=place.path, num_classes=len(names), max_pixels=place.max_pixels),
    )


def _listed(folder: Path) -> list[str]:
    """The names in a list beside the folders, if there is one."""
    for path in (folder / name for name in NAME_FILES):
        if path.is_file() and path.stat().st_size <= MAX_NAMES_BYTES:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            return [line.split(":")[0].strip() for line in lines if line.strip() and line[0] != "#"]
    return []


def _numbered(classes: FileIndex, max_pixels: int) -> list[str]:
    """As many names as the pictures hold classes."""
    highest = 0
    for path in (path for paths in classes.files.values() for path in paths):
        try:
            indices = _indices(path, max_pixels)
        except InputError:  # comes up again when its image is read
            continue
        highest = max(highest, int(indices[indices != VOID].max(initial=0)))
    return [f"class {index}" for index in range(1, highest + 1)]


def _draw(path: Path, shape: tuple[int, int], root: Path, num_classes: int, max_pixels: int) -> RawAnnotation:
    beside = root / CLASSES / path.relative_to(root / OBJECTS)
    labels, painted = _indices(path, max_pixels), _indices(beside, max_pixels)
    for file, pixels in ((path, labels), (beside, painted)):
        check_shape(file, pixels.shape, shape)
    void = painted == VOID
    labels = np.where(void, 0, labels)
    ignore = (void | (painted > 0)) & (labels == 0)
    classes = {}
    for index in np.unique(labels[labels > 0]).tolist():
        found = np.bincount(painted[labels == index])
        classes[index] = int(found.argmax())
        if not 1 <= classes[index] < num_classes:
            raise InputError(
                f"{beside} has object {index} on class {classes[index]}; classes of objects are 1 to"
                f" {num_classes - 1}"
            )
    return RawAnnotation(labels, classes, (str(path), str(beside)), ignore=ignore if ignore.any() else None)


def _indices(path: Path, max_pixels: int) -> np.ndarray:
    """The indices of a palette picture, [H, W] int32; tools that write colours take VOC's."""
    labels = read_labels(path, max_pixels=max_pixels)
    if mode_of(path) not in ("RGB", "RGBA"):
        return labels
    order = np.argsort(PALETTE)
    colours = np.where(labels == 0, PALETTE[0], labels - 1)
    place = np.searchsorted(PALETTE[order], colours).clip(max=len(PALETTE) - 1)
    indices = order[place].astype(np.int32)
    if (PALETTE[indices] != colours).any():
        raise InputError(f"{path} has colours that VOC's palette has not; save it as a palette picture")
    return indices


def _palette() -> np.ndarray:
    """VOC's 256 colours, [256] as `red * 65536 + green * 256 + blue`.

    Of the bits of an index the lowest three are the highest bits of red, green and blue, and so on.
    """
    index = np.arange(256)
    colours = np.zeros(256, np.int64)
    for bit in range(8):
        for channel in range(3):
            value = index >> (3 * bit + channel) & 1
            colours |= value << (7 - bit) << (8 * (2 - channel))
    return colours


PALETTE = _palette()
