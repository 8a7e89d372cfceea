"""The nuclei of the 2018 Data Science Bowl (BBBC038): fluorescence, bright field and stained tissue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow_datasets as tfds

from segjax.data.readers import File, read_image
from segjax.data.records import Record
from segjax.datasets.archives import open_archive
from segjax.datasets.downloads import Download
from segjax.datasets.public.hash_split import share_of
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError
from segjax.segmentation import Segmentation

# By the hash of an image's id: below the first is train, below the second validation, the rest test.
SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1.0)}


class Bbbc038(CellBuilder):
    """Builds the data set from the archive as it is downloaded, or from its unpacked folder."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION = (
        "Training images of the 2018 Data Science Bowl, stage 1: nuclei in fluorescence, in bright field and"
        " in stained tissue, one mask for each nucleus. All images have three channels, those of fluorescence"
        " three equal ones. Images are split by sha256 of their id, 70 % train, 15 % validation, 15 % test;"
        " no patient or plate is published, so an image is a group of its own."
    )
    HOMEPAGE = "https://bbbc.broadinstitute.org/BBBC038"
    CITATION = """\
@article{caicedo2019nucleus,
  title={Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl},
  author={Caicedo, Juan C and Goodman, Allen and Karhohs, Kyle W and others},
  journal={Nature Methods},
  volume={16},
  pages={1247--1253},
  year={2019},
  doi={10.1038/s41592-019-0612-7}
}"""
    LICENSE = "CC0 1.0"
    ARCHIVE = Download(
        url="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
        filename="stage1_train.zip",
        max_bytes=2**28,
    )

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the archive; its members are read where they are and never unpacked."""
        source = self.ARCHIVE.obtain(downloads)
        return {split: partial(_read_split, source, split) for split in SHARES}


def split_of(name: str) -> str:
    """The split of an image by its id: the first 32 bits of sha256, as a share of all."""
    return next(split for split, (low, high) in SHARES.items() if low <= share_of(name) < high)


def _read_split(source: Path, split: str) -> Iterator[Record]:
    with open_archive(source) as files:
        images, masks = _sort(files)
        if not images:
            raise InputError(
                f"{source} holds no <id>/images/<id>.png: put the archive there as it is downloaded"
            )
        for name in sorted(images):
            if split_of(name) == split:
                yield _read_record(name, images[name], masks.get(name, []))


def _sort(
    files: Mapping[PurePosixPath, File],
) -> tuple[dict[str, File], dict[str, list[tuple[PurePosixPath, File]]]]:
    """Finds `<anything>/<id>/images/<id>.png`, and `<anything>/<id>/masks/*.png` of each id in order."""
    images: dict[str, File] = {}
    masks: dict[str, list[tuple[PurePosixPath, File]]] = {}
    for path, file in files.items():
        if len(path.parts) < 3 or path.suffix != ".png":
            continue
        name, kind = path.parts[-3:-1]
        if kind == "images" and path.stem == name:
            images[name] = file
        elif kind == "masks":
            masks.setdefault(name, []).append((path, file))
    return images, masks


def _read_record(name: str, file: File, masks: list[tuple[PurePosixPath, File]]) -> Record:
    image = read_image(file)
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    found = []
    for path, mask in masks:
        pixels = read_image(mask).max(axis=-1) > 0
        if pixels.shape != image.shape[:2]:
            raise InputError(
                f"{path} is {pixels.shape}, but its image is {image.shape[:2]}: download it again"
            )
        found.append(pixels)
    truth = Segmentation.from_masks(found, image.shape[:2])
    return Record(name=name, group=f"bbbc038/{name}", image=image, truth=truth)
