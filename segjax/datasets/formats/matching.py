"""Images and annotations that lie in one folder, or name each other from different ones."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segjax.datasets.formats.drawing import Annotations, RawAnnotation
from segjax.datasets.formats.layout import IMAGE_FOLDER, MASK_FOLDERS, SUFFIXES


def without_masks(images: Mapping[str, Path], suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """Leaves out the annotations among the pictures of a folder that holds images and annotations alike.

    Args:
      images: pictures by key.
      suffixes: that an annotation's name may have more than its image's.

    Returns:
      Those that neither lie in a folder of masks beside `images`, nor are named like another with a suffix.
    """
    parts = [key.split("/") for key in images]
    folders = {tuple(each[: depth + 1]) for each in parts for depth in range(len(each) - 1)}
    kept = {}
    for (key, path), each in zip(images.items(), parts, strict=True):
        beside = any(
            part in MASK_FOLDERS and (*each[:depth], IMAGE_FOLDER) in folders
            for depth, part in enumerate(each[:-1])
        )
        named = any(key.endswith(suffix) and key.removesuffix(suffix) in images for suffix in suffixes)
        if not beside and not named:
            kept[key] = path
    return kept


@dataclasses.dataclass(frozen=True)
class RemappedKeys:
    """Annotations that name images from another folder than the one they are read from.

    Attributes:
      inner: the annotations.
      names: what they call an image, by its key.
    """

    inner: Annotations
    names: Mapping[str, str]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Background first."""
        return self.inner.class_names

    @property
    def keys(self) -> frozenset[str]:
        """Of the images that are annotated."""
        return self.inner.keys - set(self.names.values()) | set(self.names)

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads what was drawn on one image, see `Annotations`."""
        return self.inner.read(self.names.get(key, key), shape)


def renamed(annotations: Annotations, images: Iterable[str]) -> Annotations:
    """Finds images by the end of their path where the whole path is not known to the annotations.

    `JPEGImages/a` in a COCO file is the image `a` of the folder `JPEGImages`, and the object `a` of a VOC
    folder is the image `JPEGImages/a`, as long as no other could be meant.

    Args:
      annotations: any.
      images: the keys of all images.

    Returns:
      The annotations, by the keys of the images.
    """
    images = set(images)
    by_name = defaultdict(list)
    for name in annotations.keys:
        by_name[name.rsplit("/", 1)[-1]].append(name)
    claims: dict[str, list[str]] = defaultdict(list)
    for key in sorted(images - annotations.keys):
        matches = [
            name
            for name in by_name[key.rsplit("/", 1)[-1]]
            if f"/{name}".endswith(f"/{key}") or f"/{key}".endswith(f"/{name}")
        ]
        if len(matches) == 1 and matches[0] not in images:
            claims[matches[0]].append(key)
    names = {keys[0]: name for name, keys in claims.items() if len(keys) == 1}
    return RemappedKeys(annotations, names) if names else annotations
