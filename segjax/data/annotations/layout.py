"""Which file annotates which image."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from segjax.data.annotations.classes import names_of
from segjax.data.annotations.drawing import Annotations, Drawing
from segjax.data.readers import MAX_PIXELS
from segjax.errors import InputError

# What programs append to an image's name to name its annotation.
SUFFIXES = ("_mask", "_masks", "_label", "_labels", "-mask", "_seg", "_cp_masks", "_anno")
IMAGE_FOLDER = "images"
# Folders that lie beside that of the images.
MASK_FOLDERS = ("masks", "labels", "annotations")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where annotations are, and how they are to be read.

    Attributes:
      path: a folder, or one file.
      class_names: background first; None for those the annotations name.
      suffixes: of a stem, that the annotation's name may have more than the image's.
      max_pixels: of one image.
      images: the images by key, where they are known: an image is not taken for its own annotation.
    """

    path: Path
    class_names: tuple[str, ...] | None = None
    suffixes: tuple[str, ...] = SUFFIXES
    max_pixels: int = MAX_PIXELS
    images: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    def files(self, endings: Iterable[str]) -> Iterator[Path]:
        """The annotations' files with one of these endings, sorted; not the images that lie beside them."""
        endings = tuple(endings)
        found = [self.path] if self.path.is_file() else sorted(self.path.rglob("*"))
        for path in found:
            # Dot files are what macOS leaves next to every file it copies.
            wanted = path.suffix.lower() in endings and not path.name.startswith(".")
            if wanted and not self.beside_masks(path) and path.is_file():
                yield path

    def index(self, endings: Iterable[str]) -> Index:
        """The files with one of these endings, by the images they belong to."""
        root = self.path.parent if self.path.is_file() else self.path
        files = defaultdict(list)
        for path in self.files(endings):
            files[path.relative_to(root).with_suffix("").as_posix()].append(path)
        if not files:
            raise InputError(f"{self.path} holds no annotation; files end in {', '.join(endings)}")
        # The longest first: `a_cp_masks` belongs to `a`, not to `a_cp`.
        suffixes = tuple(sorted(self.suffixes, key=len, reverse=True))
        return Index(root, {stem: tuple(paths) for stem, paths in files.items()}, suffixes, self.images)

    def names(self, found: Iterable[str] = ()) -> tuple[str, ...]:
        """The names of the classes."""
        return names_of(found, self.class_names)

    def beside_masks(self, path: Path) -> bool:
        """Whether a path lies in `images`, next to a folder of masks: it is no annotation then."""
        parts = path.relative_to(self.path).parts[:-1]
        return any(
            part == IMAGE_FOLDER
            and any((self.path.joinpath(*parts[:depth]) / name).is_dir() for name in MASK_FOLDERS)
            for depth, part in enumerate(parts)
        )


@dataclasses.dataclass(frozen=True)
class Index:
    """The files of annotations that have one for each image.

    Attributes:
      root: the folder they are in.
      files: by path relative to the root, without ending.
      suffixes: that a stem may have more than the image's, the longest first.
      images: see `Place`.
    """

    root: Path
    files: Mapping[str, tuple[Path, ...]]
    suffixes: tuple[str, ...]
    images: Mapping[str, Path]

    @cached_property
    def keys(self) -> frozenset[str]:
        """Of the images that the files belong to: those given, or as the files' names have it."""
        keys = {key for key in self.images if self._candidates(key)}
        taken = {path for key in keys for path in self._candidates(key)}
        taken.update(path for path in self.images.values())
        for stem, paths in self.files.items():
            if not taken.issuperset(paths):
                keys.add(self._key(stem))
        return frozenset(keys)

    def find(self, key: str) -> Path:
        """The file of an image.

        Raises:
          InputError: if there is none, or more than one that could be meant.
        """
        found = self._candidates(key)
        if not found:
            raise InputError(
                f"{self.root} holds no annotation of {key}; name it as the image, or leave it out"
            )
        if len(found) > 1:
            raise InputError(f"{found[0]} and {found[1]} both annotate {key}; keep one of them")
        return found[0]

    def _candidates(self, key: str) -> list[Path]:
        parts = key.split("/")
        stems = [key]
        for depth, part in enumerate(parts[:-1]):
            if part == IMAGE_FOLDER:
                stems += ["/".join([*parts[:depth], name, *parts[depth + 1 :]]) for name in MASK_FOLDERS]
        return [
            path
            for stem in stems
            for suffix in ("", *self.suffixes)
            for path in self.files.get(stem + suffix, ())
            if path != self.images.get(key)
        ]

    def _key(self, stem: str) -> str:
        for suffix in self.suffixes:
            if stem.endswith(suffix) and not stem.endswith("/" + suffix) and stem != suffix:
                stem = stem.removesuffix(suffix)
                break
        parts = stem.split("/")
        for depth, part in enumerate(parts[:-1]):
            beside = [*parts[:depth], IMAGE_FOLDER]
            if part in MASK_FOLDERS and self.root.joinpath(*beside).is_dir():
                return "/".join([*beside, *parts[depth + 1 :]])
        return stem


@dataclasses.dataclass(frozen=True)
class PerImage:
    """Annotations that have one file for each image.

    Attributes:
      index: finds it.
      class_names: background first.
      draw: reads it, `(path, (H, W)) -> Drawing`.
    """

    index: Index
    class_names: tuple[str, ...]
    draw: Callable[[Path, tuple[int, int]], Drawing]

    @property
    def keys(self) -> frozenset[str]:
        """Of the images that are annotated."""
        return self.index.keys

    def read(self, key: str, shape: tuple[int, int]) -> Drawing:
        """Reads what was drawn on one image, see `Annotations`."""
        return self.draw(self.index.find(key), shape)


@dataclasses.dataclass(frozen=True)
class Renamed:
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

    def read(self, key: str, shape: tuple[int, int]) -> Drawing:
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
    return Renamed(annotations, names) if names else annotations
