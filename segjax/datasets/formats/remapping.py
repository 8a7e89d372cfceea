"""Annotations that name images by other paths than those relative to the folder of images."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping

from segjax.datasets.formats.annotation import Annotations, RawAnnotation


@dataclasses.dataclass(frozen=True)
class RemappedKeys:
    """Annotations under other keys, see `Annotations`.

    Attributes:
      annotations: the annotations.
      names: their own keys by the new keys; other keys stay.
    """

    annotations: Annotations
    names: Mapping[str, str]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Background first."""
        return self.annotations.class_names

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the annotated images."""
        return self.annotations.keys - set(self.names.values()) | set(self.names)

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads one image, see `Annotations`."""
        return self.annotations.read(self.names.get(key, key), shape)


def match_by_path_end(annotations: Annotations, images: Iterable[str]) -> Annotations:
    """Matches images to annotations by the end of the path where the full path is unknown.

    `JPEGImages/a` in a COCO file matches the image `a` of the folder `JPEGImages`, and the object `a` of a
    VOC folder matches the image `JPEGImages/a`, if the match is unique on both sides.

    Args:
      annotations: annotations under their own keys.
      images: the keys of all images.

    Returns:
      The annotations under the keys of the images.
    """
    images = set(images)
    by_name = defaultdict(list)
    for name in annotations.keys:
        by_name[name.rsplit("/", 1)[-1]].append(name)
    keys_by_name: dict[str, list[str]] = defaultdict(list)
    for key in sorted(images - annotations.keys):
        matches = [
            name
            for name in by_name[key.rsplit("/", 1)[-1]]
            if f"/{name}".endswith(f"/{key}") or f"/{key}".endswith(f"/{name}")
        ]
        if len(matches) == 1 and matches[0] not in images:
            keys_by_name[matches[0]].append(key)
    names = {keys[0]: name for name, keys in keys_by_name.items() if len(keys) == 1}
    return RemappedKeys(annotations, names) if names else annotations
