"""Matches annotation files to images."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from segjax.data.readers import MAX_PIXELS
from segjax.data.readers import SUFFIXES as IMAGE_SUFFIXES
from segjax.datasets.formats.annotation import BACKGROUND, IGNORED, RawAnnotation
from segjax.errors import InputError

# Endings that programs append to the name of an image to name its annotation.
SUFFIXES = ("_mask", "_masks", "_label", "_labels", "-mask", "_seg", "_cp_masks", "_anno")
IMAGE_FOLDER = "images"
# Siblings of the folder of images.
MASK_FOLDERS = ("masks", "labels", "annotations")


def absolute(path: Path) -> Path:
    """Returns an absolute path, for comparisons; symbolic links are not followed."""
    return Path(os.path.abspath(path))


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
    """

    path: Path
    class_names: tuple[str, ...] | None = None
    suffixes: tuple[str, ...] = SUFFIXES
    max_pixels: int = MAX_PIXELS
    images: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    crowds_are_cells: bool = False

    def files(self, suffixes: Iterable[str]) -> Iterator[Path]:
        """Lists the files with one of these suffixes, sorted, without images next to a folder of masks."""
        suffixes = tuple(suffixes)
        for path in [self.path] if self.path.is_file() else sorted(self.path.rglob("*")):
            # macOS leaves a dot file next to every file it copies.
            matches = path.suffix.lower() in suffixes and not path.name.startswith(".")
            is_image = path.suffix.lower() in IMAGE_SUFFIXES
            if matches and not (is_image and self.is_in_image_folder(path)) and path.is_file():
                yield path

    def index(self, suffixes: Iterable[str]) -> FileIndex:
        """Lists the files with one of these suffixes by the images they belong to."""
        root = self.path.parent if self.path.is_file() else self.path
        files = defaultdict(list)
        for path in self.files(suffixes):
            files[path.relative_to(root).with_suffix("").as_posix()].append(path)
        if not files:
            raise InputError(f"{self.path} holds no annotation; files end in {', '.join(suffixes)}")
        # The longest first: `a_cp_masks` belongs to `a`, not to `a_cp`.
        name_suffixes = tuple(sorted(self.suffixes, key=len, reverse=True))
        return FileIndex(
            root, {stem: tuple(paths) for stem, paths in files.items()}, name_suffixes, self.images
        )

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
      suffixes: endings that an annotation may append to the name of its image, the longest first.
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
        taken.update(self.images.values())
        for stem, paths in self.files.items():
            if not taken.issuperset(map(absolute, paths)):
                keys.add(self._image_key(stem))
        return frozenset(keys)

    def find(self, key: str) -> Path:
        """Returns the file of an image.

        Raises:
          InputError: if there is none, or more than one.
        """
        paths = self._candidates(key)
        if not paths:
            raise InputError(
                f"{self.root} holds no annotation of {key}; name it like the image, or remove the image",
                kind="missing_mask",
            )
        if len(paths) > 1:
            raise InputError(
                f"{paths[0]} and {paths[1]} both annotate {key}; keep one of them", kind="two_masks"
            )
        return paths[0]

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

    def _image_key(self, stem: str) -> str:
        for suffix in self.suffixes:
            if stem.endswith(suffix) and not stem.endswith("/" + suffix) and stem != suffix:
                stem = stem.removesuffix(suffix)
                break
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
        """Reads one image, see `Annotations`."""
        return self.read_file(self.index.find(key), shape)


def without_masks(images: Mapping[str, Path], suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """Removes the annotations from the pictures of a folder that holds images and annotations.

    Args:
      images: pictures by key.
      suffixes: endings that an annotation may append to the name of its image.

    Returns:
      The pictures that neither lie in a folder of masks next to `images`, nor have the name of another
      picture with a suffix.
    """
    parts_by_key = {key: key.split("/") for key in images}
    folders = {
        tuple(parts[: depth + 1]) for parts in parts_by_key.values() for depth in range(len(parts) - 1)
    }

    def is_mask(key: str) -> bool:
        parts = parts_by_key[key]
        return any(key.endswith(suffix) and key.removesuffix(suffix) in images for suffix in suffixes) or any(
            part in MASK_FOLDERS and (*parts[:depth], IMAGE_FOLDER) in folders
            for depth, part in enumerate(parts[:-1])
        )

    return {key: path for key, path in images.items() if not is_mask(key)}
