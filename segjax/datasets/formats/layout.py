"""Which file annotates which image."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from segjax.data.readers import MAX_PIXELS
from segjax.data.readers import SUFFIXES as PICTURES
from segjax.datasets.formats.classes import names_of
from segjax.datasets.formats.drawing import RawAnnotation
from segjax.errors import InputError

# What programs append to an image's name to name its annotation.
SUFFIXES = ("_mask", "_masks", "_label", "_labels", "-mask", "_seg", "_cp_masks", "_anno")
IMAGE_FOLDER = "images"
# Folders that lie beside that of the images.
MASK_FOLDERS = ("masks", "labels", "annotations")


def absolute(path: Path) -> Path:
    """A path that can be compared with others, wherever the program runs; links are not followed."""
    return Path(os.path.abspath(path))


@dataclasses.dataclass(frozen=True)
class AnnotationSource:
    """Where annotations are, and how they are to be read.

    Attributes:
      path: a folder, or one file.
      class_names: background first; None for those the annotations name.
      suffixes: of a stem, that the annotation's name may have more than the image's.
      max_pixels: of one image.
      images: absolute paths of the images by key, where they are known: none is its own annotation.
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
            picture = path.suffix.lower() in PICTURES
            if wanted and not (picture and self.beside_masks(path)) and path.is_file():
                yield path

    def index(self, endings: Iterable[str]) -> FileIndex:
        """The files with one of these endings, by the images they belong to."""
        root = self.path.parent if self.path.is_file() else self.path
        files = defaultdict(list)
        for path in self.files(endings):
            files[path.relative_to(root).with_suffix("").as_posix()].append(path)
        if not files:
            raise InputError(f"{self.path} holds no annotation; files end in {', '.join(endings)}")
        # The longest first: `a_cp_masks` belongs to `a`, not to `a_cp`.
        suffixes = tuple(sorted(self.suffixes, key=len, reverse=True))
        return FileIndex(root, {stem: tuple(paths) for stem, paths in files.items()}, suffixes, self.images)

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
class FileIndex:
    """The files of annotations that have one for each image.

    Attributes:
      root: the folder they are in.
      files: by path relative to the root, without ending.
      suffixes: that a stem may have more than the image's, the longest first.
      images: see `AnnotationSource`.
    """

    root: Path
    files: Mapping[str, tuple[Path, ...]]
    suffixes: tuple[str, ...]
    images: Mapping[str, Path]

    @cached_property
    def keys(self) -> frozenset[str]:
        """Of the images that the files belong to: those given, or as the files' names have it."""
        keys = {key for key in self.images if self._candidates(key)}
        taken = {absolute(path) for key in keys for path in self._candidates(key)}
        taken.update(self.images.values())
        for stem, paths in self.files.items():
            if not taken.issuperset(map(absolute, paths)):
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
            if absolute(path) != self.images.get(key)
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
class OneFilePerImage:
    """Annotations that have one file for each image.

    Attributes:
      index: finds it.
      class_names: background first.
      draw: reads it, `(path, (H, W)) -> Drawing`.
    """

    index: FileIndex
    class_names: tuple[str, ...]
    draw: Callable[[Path, tuple[int, int]], RawAnnotation]

    @property
    def keys(self) -> frozenset[str]:
        """Of the images that are annotated."""
        return self.index.keys

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads what was drawn on one image, see `Annotations`."""
        return self.draw(self.index.find(key), shape)
