"""The nuclei of the 2018 Data Science Bowl (BBBC038): fluorescence, bright field and stained tissue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import tensorflow_datasets as tfds

from segjax.data.readers import File, read_image
from segjax.data.records import Record
from segjax.datasets.downloads import Download
from segjax.datasets.public.hash_split import hash_fraction
from segjax.datasets.public.pairs import Files, PairBuilder, check_size, read_texts
from segjax.segmentation import Segmentation

# The interval of hash fractions of each split.
FRACTIONS = {"train": (0.0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1.0)}


class Bbbc038(PairBuilder):
    """Builds the data set from the original archive, or from its unpacked folder."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION, CITATION = read_texts("bbbc038")
    HOMEPAGE = "https://bbbc.broadinstitute.org/BBBC038"
    LICENSE = "CC0 1.0"
    ARCHIVE = Download(
        url="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
        filename="stage1_train.zip",
        max_bytes=2**28,
    )

    IMAGES = ("*/images/*.png",)
    LAYOUT = "<id>/images/<id>.png"

    @classmethod
    def select(cls, images: Sequence[PurePosixPath], split: str) -> list[PurePosixPath]:
        """Splits by the hash of the id."""
        return [path for path in images if path.stem == path.parts[-3] and split_of(path.stem) == split]

    @classmethod
    def read_records(cls, files: Files, images: Sequence[PurePosixPath]) -> Iterator[Record]:
        """Reads `<id>/images/<id>.png` with every mask `<id>/masks/*.png`."""
        masks: dict[PurePosixPath, list[File]] = {}
        for path, file in files.items():
            if path.match("*/masks/*.png"):
                masks.setdefault(path.parents[1], []).append(file)
        for path in images:
            yield _read_record(path.stem, files[path], masks.get(path.parents[1], []))


def split_of(name: str) -> str:
    """Returns the split of an image by the hash fraction of its id."""
    return next(split for split, (low, high) in FRACTIONS.items() if low <= hash_fraction(name) < high)


def _read_record(name: str, file: File, masks: Sequence[File]) -> Record:
    image = read_image(file)
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    instances = []
    for mask in masks:
        instances.append(read_image(mask).max(axis=-1) > 0)
        check_size(mask, instances[-1].shape, image)
    truth = Segmentation.from_masks(instances, image.shape[:2])
    return Record(name=name, group=f"bbbc038/{name}", image=image, truth=truth)
