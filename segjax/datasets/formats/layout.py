"""Matches annotation files to images."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.readers import MAX_PIXELS
from segjax.data.readers import SUFFIXES as PICTURE_SUFFIXES
from segjax.data.readers.array import read_header
from segjax.datasets.formats.annotation import BACKGROUND, IGNORED, RawAnnotation
from segjax.datasets.formats.names import (
    IMAGE_FOLDER,
    MASK_FOLDERS,
    OME,
    SUFFIXES,
    pictures_by_cellpose,
    without_suffix,
)
from segjax.errors import InputError
from segjax.files import explain_refusal, walk


def absolute(path: Path) -> Path:
    """Returns an absolute path, for comparisons; symbolic links are not followed."""
    return Path(os.path.abspath(path))


def is_below(path: Path, others: Set[Path]) -> bool:
    """Returns whether a path is one of the others or lies in one of them; all are absolute."""
    return path in others or any(parent in others for parent in path.parents)


@dataclasses.dataclass(frozen=True)
class AnnotationSource:
    """The path of annotations and the options of reading them.

    Attributes:
      path: a folder or one file.
      class_names: background first; None for the names in the annotations.
      suffixes: endings that an annotation may append to the name of its image.
      max_pixels: limit for one image.
      images: absolute paths of the images by key, if known; an image is never its own annotation.
      crowds_are_cells: whether COCO's crowds are instances, not regions to ignore.
      without: absolute paths of files and folders to ignore.
      planes: plane to read along each axis of masks that are stacks.
    """

    path: Path
    class_names: tuple[str, ...] | None = None
    suffixes: tuple[str, ...] = SUFFIXES
    max_pixels: int = MAX_PIXELS
    images: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    crowds_are_cells: bool = False
    without: tuple[Path, ...] = ()
    planes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def reading(self) -> dict[str, Any]:
        """Keyword arguments of `read_labels` and `read_image`."""
        return {"max_pixels": self.max_pixels, "planes": self.planes}

    @cached_property
    def root(self) -> Path:
        """The folder of the annotations."""
        return self.path.parent if self.path.is_file() else self.path

    @cached_property
    def listing(self) -> tuple[list[Path], list[Path]]:
        """All files, sorted, and the files that hold Python objects, which are never loaded.

        Hidden files, see `walk`, and pictures that Cellpose writes for other pictures are in neither list.

        Raises:
          InputError: if a folder cannot be read.
        """
        if self.path.is_file():
            return ([], [self.path]) if _holds_objects(self.path) else ([self.path], [])
        paths, without = sorted(walk(self.path, _refuse_folder)), frozenset(self.without)
        keys = {
            path: self.key_of(path)
            for path in paths
            if path.is_file() and not is_below(absolute(path), without)
        }
        passed_over = pictures_by_cellpose(set(keys.values()), self.suffixes) - self.images.keys()
        files = [path for path, key in keys.items() if key not in passed_over]
        objects = {path for path in files if path.name.endswith("_seg.npy") and _holds_objects(path)}
        return [path for path in files if path not in objects], sorted(objects)

    def key_of(self, path: Path) -> str:
        """Returns the path of a file relative to the root, without suffix."""
        return path.relative_to(self.root).with_suffix("").as_posix()

    def files(self, suffixes: Iterable[str]) -> Iterator[Path]:
        """Lists the files with one of these suffixes, sorted, without images next to a folder of masks."""
        suffixes = tuple(suffixes)
        for path in self.listing[0]:
            is_picture = path.suffix.lower() in PICTURE_SUFFIXES
            if path.suffix.lower() in suffixes and not (is_picture and self.is_in_image_folder(path)):
                yield path

    def index(self, suffixes: Iterable[str]) -> FileIndex:
        """Lists the files with one of these suffixes by the images they belong to."""
        files, images = defaultdict(list), set(self.images.values())
        for path in self.files(suffixes):
            if absolute(path) not in images:
                files[self.key_of(path)].append(path)
        if not files:
            raise self.nothing(f"files end in {', '.join(suffixes)}")
        stems = {stem: tuple(paths) for stem, paths in files.items()}
        return FileIndex(self.root, stems, self.suffixes, self.images)

    def nothing(self, remedy: str) -> InputError:
        """Returns the error that there is no annotation."""
        if self.listing[1]:
            remedy = (
                f"{self.listing[1][0].name} holds Python objects, which are never loaded because they may run"
                " any code: save the masks as PNG or TIFF, in Cellpose by File > Save masks"
            )
        return InputError(f"{self.path} holds no annotation; {remedy}")

    def names(self, annotated: Iterable[str] = ()) -> tuple[str, ...]:
        """Returns the names of all classes, background first.

        Args:
          annotated: names in the annotations, in the order of classes 1, 2, ...; repeats are dropped. They
            count if the user gave none; without any name there is one class, `cell`.
        """
        if self.class_names is not None:
            return self.class_names
        names = [name for name in dict.fromkeys(annotated) if name not in (*BACKGROUND, IGNORED)]
        return ("background", *(names or ["cell"]))

    def is_in_image_folder(self, path: Path) -> bool:
        """Returns whether a path lies in a folder `images` that is next to a folder of masks."""
        parts = path.relative_to(self.path).parts[:-1]
        return any(
            part == IMAGE_FOLDER
            and any((self.path.joinpath(*parts[:depth]) / name).is_dir() for name in MASK_FOLDERS)
            for depth, part in enumerate(parts)
        )


@dataclasses.dataclass(frozen=True)
class FileIndex:
    """Annotation files by image, for formats with one file for each image.

    Attributes:
      root: the folder of the files.
      files: annotation files by path relative to the root, without suffix.
      suffixes: endings that an annotation may append to the name of its image.
      images: see `AnnotationSource`.
    """

    root: Path
    files: Mapping[str, tuple[Path, ...]]
    suffixes: tuple[str, ...]
    images: Mapping[str, Path]

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of the annotated images: those of known images, or what the names of the files imply."""
        keys = {key for key in self.images if self._candidates(key)}
        taken = {absolute(path) for key in keys for path in self._candidates(key)}
        for stem, paths in self.files.items():
            if not taken.issuperset(map(absolute, paths)):
                keys.add(self._image_key(stem))
        return frozenset(keys)

    def find(self, key: str) -> list[Path]:
        """Returns the files of an image.

        Raises:
          InputError: if there is none.
        """
        paths = self._candidates(key)
        if not paths:
            raise InputError(
                f"{self.root} holds no annotation of {key}; name it like the image, or remove the image",
                kind="missing_mask",
            )
        return paths

    def _candidates(self, key: str) -> list[Path]:
        parts = key.split("/")
        stems = [key]
        for depth, part in enumerate(parts[:-1]):
            if part == IMAGE_FOLDER:
                stems += ["/".join([*parts[:depth], name, *parts[depth + 1 :]]) for name in MASK_FOLDERS]
        return [
            path
            for stem in stems
            for suffix in ("", *self.suffixes, *(suffix + OME for suffix in self.suffixes))
            for path in self.files.get(stem + suffix, ())
        ]

    def _image_key(self, stem: str) -> str:
        stem = without_suffix(stem, self.suffixes)
        parts = stem.split("/")
        for depth, part in enumerate(parts[:-1]):
            sibling = [*parts[:depth], IMAGE_FOLDER]
            if part in MASK_FOLDERS and self.root.joinpath(*sibling).is_dir():
                return "/".join([*sibling, *parts[depth + 1 :]])
        return stem


@dataclasses.dataclass(frozen=True)
class OneFilePerImage:
    """Annotations with one file for each image, see `Annotations`.

    Attributes:
      index: finds the file.
      class_names: background first.
      read_file: reads it, `(path, (H, W)) -> RawAnnotation`.
    """

    index: FileIndex
    class_names: tuple[str, ...]
    read_file: Callable[[Path, tuple[int, int]], RawAnnotation]

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the annotated images."""
        return self.index.keys

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads one image, see `Annotations`. Several files that hold the same annotation are one.

        Raises:
          InputError: if there is no annotation, or several that differ.
        """
        first, *others = self.index.find(key)
        annotation = self.read_file(first, shape)
        for other in others:
            if not _is_equal(annotation, self.read_file(other, shape)):
                raise InputError(
                    f"{first} and {other} both annotate {key}, and differ; keep one of them", kind="two_masks"
                )
        return annotation


def _is_equal(first: RawAnnotation, second: RawAnnotation) -> bool:
    return first.classes == second.classes and np.array_equal(first.labels, second.labels)


def _holds_objects(path: Path) -> bool:
    """Returns whether a NumPy file holds Python objects, as the `_seg.npy` of Cellpose does."""
    if path.suffix.lower() != ".npy":
        return False
    try:
        with path.open("rb") as file:
            return read_header(file)[2].hasobject
    except (OSError, ValueError):  # the reader reports it
        return False


def _refuse_folder(error: OSError) -> None:
    raise InputError(explain_refusal(error)) from error
