"""Converts annotations to segmentations without repairing them, and notes facts about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segjax.data.readers import SUFFIXES, read_labels
from segjax.datasets.formats import Annotations, RawAnnotation
from segjax.datasets.formats.coco import Coco
from segjax.datasets.formats.layout import OneFilePerImage
from segjax.datasets.formats.mask_images import Instances
from segjax.datasets.formats.remapping import RemappedKeys
from segjax.errors import InputError
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE

# Number of images that a message names.
NAMED = 3


class Notes:
    """Facts about the files that do not stop an evaluation, each with its images."""

    def __init__(self) -> None:
        self._images: dict[str, set[str]] = {}

    def add(self, fact: str, image: str) -> None:
        """Adds a fact about an image."""
        self._images.setdefault(fact, set()).add(image)

    def sentences(self) -> list[str]:
        """Returns one sentence for each fact."""
        return [f"{fact}: {named(sorted(images))}" for fact, images in self._images.items()]


def named(names: Sequence[str]) -> str:
    """Returns the first names and the number of the others.

    >>> named(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def stated_shape(annotations: Annotations, key: str) -> tuple[int, int]:
    """Returns the shape `(H, W)` of an image, as its annotation states it.

    Raises:
      InputError: if the annotation does not state it.
    """
    if isinstance(annotations, RemappedKeys):
        return stated_shape(annotations.annotations, annotations.names.get(key, key))
    if isinstance(annotations, Coco):
        image = annotations.images[key]
        return image.get("height", int), image.get("width", int)
    files: Sequence[Path] = []
    if isinstance(annotations, OneFilePerImage):
        files = annotations.index.find(key)
    elif isinstance(annotations, Instances):
        files = sorted(annotations.folders[key].iterdir())
    for path in files:
        if path.suffix.lower() in SUFFIXES:
            height, width = read_labels(path).shape
            return height, width
    raise InputError(f"the truth of {key} does not state the size of its image: give --images=FOLDER")


def to_segmentation(raw: RawAnnotation, classes: Sequence[int], where: str, notes: Notes) -> Segmentation:
    """Converts an annotation to a segmentation.

    Args:
      raw: the annotation.
      classes: [K], for each class of the annotation its number in the segmentation.
      where: path and image, as "path: image", for errors and notes.
      notes: facts about the annotation are added to it.

    Raises:
      InputError: if a part of the annotation cannot be used.
    """
    if raw.lossy:
        raise InputError(f"{where} is a JPEG, which alters ids: save the labels as TIFF or PNG")
    if raw.invalid:
        more = f" (and {len(raw.invalid) - 1} more)" if len(raw.invalid) > 1 else ""
        raise InputError(f"{where}: {raw.invalid[0]}{more}")
    what = where.partition(": ")[0]
    if raw.binary:
        fact = "holds one id in several parts; if it is a mask of the foreground, the format binary separates"
        notes.add(f"{what} {fact} them", where.partition(": ")[2])
    if raw.num_hidden:
        notes.add(
            f"{what} has outlines that cover no pixel or are covered by others, which are not scored",
            where.partition(": ")[2],
        )
    ids = np.unique(raw.labels[raw.labels != 0]).tolist()
    segmentation = Segmentation.from_labels(
        raw.labels,
        classes=[classes[raw.classes.get(index, 1)] for index in ids],
        scores=[raw.scores.get(index, 1.0) for index in ids],
    )
    if raw.ignore is not None:
        segmentation.semantic[raw.ignore & (segmentation.labels == 0)] = IGNORE
    return segmentation


def without_ignored(segmentation: Segmentation, where: str, notes: Notes) -> Segmentation:
    """Makes pixels to ignore background, as a prediction has a class everywhere; a note says so.

    Args:
      segmentation: a prediction, which is changed.
      where: path and image, see `to_segmentation`.
      notes: the note is added to it.
    """
    ignored = segmentation.semantic == IGNORE
    if ignored.any():
        what, _, image = where.partition(": ")
        notes.add(f"{what} has regions to ignore, which count as background in a prediction", image)
        segmentation.semantic[ignored] = 0
    return segmentation
