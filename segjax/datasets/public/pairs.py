"""Public data sets that are archives of images, each with its annotation in a second file."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from skimage.measure import label

from segjax.data.readers import File, read_image, read_labels
from segjax.data.records import Record
from segjax.datasets.archives import open_archive
from segjax.datasets.downloads import Download, ManualDownload
from segjax.datasets.packages import Wheel
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError
from segjax.segmentation import Segmentation

SPLITS = ("train", "validation", "test")
Files = Mapping[PurePosixPath, File]


class PairBuilder(CellBuilder):
    """Builds a data set from one archive, whose images are selected by patterns of their paths.

    Members of the archive are read where they are and never unpacked.

    Attributes:
      ARCHIVE: the archive.
      IMAGES: patterns of the images, as `PurePath.match` takes them.
      LAYOUT: the path of an image as the error for another archive writes it.
    """

    ARCHIVE: ClassVar[Download | ManualDownload | Wheel]
    IMAGES: ClassVar[tuple[str, ...]]
    LAYOUT: ClassVar[str]

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the archive."""
        source = self.ARCHIVE.obtain(downloads)
        return {split: partial(self.read_split, source, split) for split in SPLITS}

    @classmethod
    def read_split(cls, source: Path, split: str) -> Iterator[Record]:
        """Reads the records of one split."""
        with open_archive(source) as files:
            images = [path for path in files if any(path.match(pattern) for pattern in cls.IMAGES)]
            if not images:
                raise InputError(
                    f"{source} holds no {cls.LAYOUT}: put the original archive there, unmodified"
                )
            yield from cls.read_records(files, cls.select(images, split))

    @classmethod
    @abc.abstractmethod
    def select(cls, images: Sequence[PurePosixPath], split: str) -> list[PurePosixPath]:
        """Returns the images of a split."""

    @classmethod
    @abc.abstractmethod
    def read_records(cls, files: Files, images: Sequence[PurePosixPath]) -> Iterator[Record]:
        """Reads images with their annotations."""


def read_texts(name: str) -> tuple[str, str]:
    """Reads the description and the citation of a data set from `name.md` and `name.bib` in this package."""
    folder = resources.files(__package__)
    description = (folder / f"{name}.md").read_text(encoding="utf-8")
    return " ".join(description.split()), (folder / f"{name}.bib").read_text(encoding="utf-8").strip()


def read_pair(
    name: str,
    group: str,
    image: File,
    labels: File | None,
    *,
    read: Callable[[File], np.ndarray] = read_labels,
) -> Record:
    """Reads an image and its label picture; all instances are of class 1.

    Args:
      name: name of the record.
      group: group of the record.
      image: image file.
      labels: label file, None if it is missing.
      read: reads the label file as a label map [H, W].

    Raises:
      InputError: if a file is missing or damaged, or the sizes differ.
    """
    if labels is None:
        raise InputError(f"{image} has no label picture: download the data set again")
    pixels, ids = read_image(image), read(labels)
    check_size(labels, ids.shape, pixels)
    return Record(name=name, group=group, image=pixels, truth=Segmentation.from_labels(ids))


def read_components(file: File) -> np.ndarray:
    """Labels the 8-connected regions of one value of the first channel, [H, W] int32; 0 is background."""
    return label(read_image(file)[..., 0], background=0, connectivity=2).astype(np.int32)


def check_size(annotation: File, shape: tuple[int, ...], image: np.ndarray) -> None:
    """Raises an `InputError` that names the annotation if its shape differs from the shape of the image."""
    if shape != image.shape[:2]:
        raise InputError(f"{annotation} is {shape}, but its image is {image.shape[:2]}: download it again")
