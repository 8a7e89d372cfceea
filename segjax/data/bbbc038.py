"""The nuclei of the 2018 Data Science Bowl (BBBC038): fluorescence, bright field and stained tissue."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from segjax.data.builder import CellBuilder
from segjax.data.readers import File, read_image
from segjax.data.records import Record
from segjax.errors import InputError
from segjax.segmentation import Segmentation

ARCHIVE = "stage1_train.zip"
FOLDER = "stage1_train"
# By the hash of an image's id: below the first is train, below the second validation, the rest test.
SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1.0)}
# The largest image has 2 MB.
MAX_MEMBER_BYTES = 2**26


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

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Finds what was put by hand; members of the archive are read where they are and never unpacked."""
        by_hand = downloads / "manual"
        found = next((path for path in (by_hand / ARCHIVE, by_hand / FOLDER) if path.exists()), None)
        if found is None:
            raise InputError(
                f"BBBC038 is not downloaded by segjax: get {ARCHIVE} from {self.HOMEPAGE} and put it into"
                f" {by_hand}"
            )
        return {split: partial(_read_split, found, split) for split in SHARES}


def split_of(name: str) -> str:
    """The split of an image by its id: the first 32 bits of sha256, as a share of all."""
    share = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
    return next(split for split, (low, high) in SHARES.items() if low <= share < high)


def join_masks(masks: list[np.ndarray]) -> Segmentation:
    """Joins the masks of single nuclei.

    Args:
      masks: each [H, W] bool. Where they overlap the smaller nucleus is on top, of equal ones the later; one
        that is empty, or covered whole, is left out.

    Returns:
      The segmentation; ids follow the order of the masks.
    """
    labels = np.zeros(masks[0].shape, np.int32)
    # Painted from the largest to the smallest.
    for index in sorted(range(len(masks)), key=lambda index: (-masks[index].sum(), index)):
        labels[masks[index]] = index + 1
    return Segmentation.from_labels(labels)


def _read_split(source: Path, split: str) -> Iterator[Record]:
    if source.is_dir():
        files: list[tuple[str, File]] = [
            (path.relative_to(source.parent).as_posix(), path) for path in source.rglob("*.png")
        ]
        yield from _read_records(files, split, source)
        return
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise InputError(f"{source} is damaged ({error}): download it again") from error
    with archive:
        for member in archive.infolist():
            if member.file_size > MAX_MEMBER_BYTES:
                raise InputError(
                    f"{source} holds {member.filename} of {member.file_size} bytes: not this data set"
                )
        members = [
            (name, zipfile.Path(archive, name)) for name in archive.namelist() if name.endswith(".png")
        ]
        yield from _read_records(members, split, source)


def _read_records(files: Sequence[tuple[str, File]], split: str, source: Path) -> Iterator[Record]:
    """Reads `<anything>/<id>/images/<id>.png` with all of `<anything>/<id>/masks/*.png`."""
    images: dict[str, File] = {}
    masks: dict[str, list[tuple[str, File]]] = {}
    for name, file in files:
        parts = Path(name).parts
        # Other members are what macOS leaves behind.
        if len(parts) < 3 or parts[0] == "__MACOSX" or parts[-1].startswith(".") or ".." in parts:
            continue
        if parts[-2] == "images" and parts[-1] == f"{parts[-3]}.png":
            images[parts[-3]] = file
        elif parts[-2] == "masks":
            masks.setdefault(parts[-3], []).append((name, file))
    if not images:
        raise InputError(f"{source} holds no <id>/images/<id>.png: put the archive there as it is downloaded")
    for name in sorted(images):
        if split_of(name) == split:
            yield _read_record(name, images[name], sorted(masks.get(name, []), key=lambda pair: pair[0]))


def _read_record(name: str, file: File, masks: list[tuple[str, File]]) -> Record:
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
    truth = join_masks(found) if found else Segmentation.empty(image.shape[:2])
    return Record(name=name, group=f"bbbc038/{name}", image=image, truth=truth)
