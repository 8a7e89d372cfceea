"""Annotations that name images by other paths than those relative to the folder of images."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property

from absl import logging

from segjax.datasets.formats.annotation import Annotations, RawAnnotation
from segjax.datasets.formats.names import base_name


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

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of the annotated images."""
        return self.annotations.keys - set(self.names.values()) | set(self.names)

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads one image, see `Annotations`."""
        return self.annotations.read(self.names.get(key, key), shape)


def match_by_path_end(
    annotations: Annotations, images: Iterable[str], *, by_name: bool = False
) -> Annotations:
    """Matches images to annotations by the end of the path where the full path is unknown.

    `JPEGImages/a` in a COCO file matches the image `a` of the folder `JPEGImages`, and the object `a` of a
    VOC folder matches the image `JPEGImages/a`, if the match is unique on both sides. Names that differ match
    if they are equal for `base_name`, as those of `a.ome.tif` and `a.tif` are.

    Args:
      annotations: annotations under their own keys.
      images: the keys of all images.
      by_name: whether the folders of the annotations may be those of another machine. Names that no path
        matches are then compared without folders, and without the eight digits that Label Studio puts before
        the name of an uploaded file.

    Returns:
      The annotations under the keys of the images.
    """
    images = set(images)
    names: dict[str, str] = {}
    for plain in (str, base_name, *((_name, _name_before_upload) if by_name else ())):
        unmatched = annotations.keys - images - set(names.values())
        matches = _match(images - annotations.keys - names.keys(), unmatched, annotations.keys, plain)
        if matches and plain in (_name, _name_before_upload):
            image, other = next(iter(sorted(matches.items())))
            logging.warning(
                "%d images are matched by their name alone, such as %s: %s", len(matches), image, other
            )
        names |= matches
    return RemappedKeys(annotations, names) if names else annotations


def _name(key: str) -> str:
    return base_name(key).rpartition("/")[2]


def _name_before_upload(key: str) -> str:
    return re.sub(r"^[0-9a-f]{8}-", "", _name(key))


def _ends(path: str) -> list[str]:
    """Returns a path, and the path without its first folder, first two folders, and so on.

    >>> _ends("a/b/c")
    ['a/b/c', 'b/c', 'c']
    """
    parts = path.split("/")
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _match(
    images: Iterable[str], unmatched: Collection[str], names: Iterable[str], plain: Callable[[str], str]
) -> dict[str, str]:
    """Returns the unmatched names of annotations, by image, whose path ends alike for `plain`.

    An image has a match only if no other of all names ends alike.
    """
    by_path: dict[str, list[str]] = defaultdict(list)
    by_end: dict[str, list[str]] = defaultdict(list)
    for name in names:
        for number, end in enumerate(_ends(plain(name))):
            (by_path if number == 0 else by_end)[end].append(name)
    keys_by_name: dict[str, list[str]] = defaultdict(list)
    for key in images:
        ends = _ends(plain(key))
        matches = [*by_end.get(ends[0], ()), *(name for end in ends for name in by_path.get(end, ()))]
        if len(matches) == 1 and matches[0] in unmatched:
            keys_by_name[matches[0]].append(key)
    return {keys[0]: name for name, keys in keys_by_name.items() if len(keys) == 1}
