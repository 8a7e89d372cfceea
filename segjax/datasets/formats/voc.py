"""Pascal VOC: a PNG of classes and a PNG of objects for each image, 255 for the void along outlines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from segjax.data.readers import read_labels
from segjax.datasets.formats.annotation import BACKGROUND, IGNORED, Annotations, RawAnnotation, check_shape
from segjax.datasets.formats.documents import INVALID
from segjax.datasets.formats.layout import AnnotationSource, FileIndex, OneFilePerImage
from segjax.datasets.formats.mask_images import pillow_mode
from segjax.errors import InputError

OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"
VOID = 255
# Lists of class names that tools write next to the folders; the part before a colon is the name.
NAME_FILES = ("class_names.txt", "labelmap.txt", "labels.txt")
MAX_NAMES_BYTES = 2**16


def open_voc(source: AnnotationSource) -> Annotations:
    """Pairs of pictures of one name; palette indices count, or colours of VOC's palette.

    The colours of classes are those of the list next to the folders if it has any, as that of CVAT. Class
    names come from the user or a list next to the folders; otherwise they are `class 1`, `class 2`, ...
    A pixel of class 255, of a class without an object, or of an object without a class is a pixel to ignore.
    So is one of object 255, unless there are objects 1 to 254, too.
    """
    folders = [source.path / OBJECTS, source.path / CLASSES]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is missing; VOC has a folder {OBJECTS} and a folder {CLASSES}")
    objects, classes = (dataclasses.replace(source, path=folder).index([".png"]) for folder in folders)
    listed = _listed_classes(source.path)
    palette = PALETTE
    colours = [colour for name, colour in listed.items() if name not in (*BACKGROUND, IGNORED)]
    if colours and None not in colours:
        palette = np.full(256, -1)
        palette[0], palette[VOID], palette[1 : 1 + len(colours)] = PALETTE[0], PALETTE[VOID], colours
    read_classes = partial(_read_indices, max_pixels=source.max_pixels, palette=palette)
    names = source.class_names or source.names(listed or _numbered_names(classes, read_classes))
    read_file = partial(
        _read_file,
        root=source.path,
        num_classes=len(names),
        read_objects=partial(_read_indices, max_pixels=source.max_pixels, palette=PALETTE),
        read_classes=read_classes,
    )
    return OneFilePerImage(objects, names, read_file)


def _listed_classes(folder: Path) -> dict[str, int | None]:
    """Returns the colours of the classes by their names, in the order of the list; None without a colour."""
    for path in (folder / name for name in NAME_FILES):
        if path.is_file() and path.stat().st_size <= MAX_NAMES_BYTES:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            rows = [line.split(":") for line in lines if line.strip() and line[0] != "#"]
            return {row[0].strip(): _colour(row[1]) if len(row) > 1 else None for row in rows}
    return {}


def _colour(text: str) -> int | None:
    """Returns a colour, such as `250,50,83`, as in `PALETTE`; None if it is none."""
    try:
        red, green, blue = (int(number) for number in text.split(","))
    except ValueError:
        return None
    return (red << 16) + (green << 8) + blue


def _numbered_names(classes: FileIndex, read_classes: Callable[[Path], np.ndarray]) -> list[str]:
    """Returns as many names as the pictures hold classes."""
    highest = 0
    for path in (path for paths in classes.files.values() for path in paths):
        try:
            indices = read_classes(path)
        except InputError:  # comes again when its image is read
            continue
        highest = max(highest, int(indices[indices != VOID].max(initial=0)))
    return [f"class {index}" for index in range(1, highest + 1)]


def _read_file(
    path: Path,
    shape: tuple[int, int],
    root: Path,
    num_classes: int,
    read_objects: Callable[[Path], np.ndarray],
    read_classes: Callable[[Path], np.ndarray],
) -> RawAnnotation:
    class_path = root / CLASSES / path.relative_to(root / OBJECTS)
    labels, semantic = read_objects(path), read_classes(class_path)
    for file, pixels in ((path, labels), (class_path, semantic)):
        check_shape(file, pixels.shape, shape)
    void = semantic == VOID
    if set(range(1, VOID)) - set(np.unique(labels).tolist()):
        # No object, unless all numbers below it are.
        void, labels = void | (labels == VOID), np.where(labels == VOID, 0, labels)
    num_objects = len(np.unique(labels[labels > 0]))
    labels = np.where(void, 0, labels)
    ignore = (void | (semantic > 0)) & (labels == 0)
    objects = np.unique(labels[labels > 0]).tolist()
    classes, invalid = {}, []
    for index in objects:
        pixels = labels == index
        classes[index] = int(np.bincount(semantic[pixels]).argmax())
        if not classes[index]:
            # A cell or background: the two pictures contradict each other.
            ignore |= pixels
            invalid.append(f"{class_path}: object {index} has no class")
        elif classes[index] >= num_classes:
            raise InputError(
                f"{class_path} has object {index} on class {classes[index]}; classes of objects are 1 to"
                f" {num_classes - 1}",
                kind="invalid_class",
            )
    labels[ignore] = 0
    return RawAnnotation(
        labels,
        {index: number for index, number in classes.items() if number},
        (str(path), str(class_path)),
        num_hidden=num_objects - len(objects),
        invalid=tuple(invalid),
        ignore=ignore if ignore.any() else None,
    )


def _read_indices(path: Path, max_pixels: int, palette: np.ndarray) -> np.ndarray:
    """Reads the indices of a palette picture, [H, W] int32, or converts colours to indices.

    Args:
      path: the picture.
      max_pixels: limit for it.
      palette: [256] colours as in `PALETTE`; -1 for no colour.
    """
    labels = read_labels(path, max_pixels=max_pixels)
    if pillow_mode(path) not in ("RGB", "RGBA"):
        return labels
    order = np.argsort(palette)
    colours = np.where(labels == 0, PALETTE[0], labels - 1)
    positions = np.searchsorted(palette[order], colours).clip(max=len(palette) - 1)
    indices = order[positions].astype(np.int32)
    if (palette[indices] != colours).any():
        whose = "VOC's palette" if palette is PALETTE else "the list of classes"
        raise InputError(
            f"{path} has colours that are not in {whose}; save it as a palette picture", kind=INVALID
        )
    return indices


def _palette() -> np.ndarray:
    """Returns VOC's 256 colours, [256] as `red * 65536 + green * 256 + blue`.

    The lowest three bits of an index are the highest bits of red, green and blue, and so on.
    """
    index = np.arange(256)
    colours = np.zeros(256, np.int64)
    for bit in range(8):
        for channel in range(3):
            value = index >> (3 * bit + channel) & 1
            colours |= value << (7 - bit) << (8 * (2 - channel))
    return colours


PALETTE = _palette()
