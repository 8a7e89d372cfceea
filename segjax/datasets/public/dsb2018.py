"""The fluorescence images of the 2018 Data Science Bowl that StarDist was published with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import tensorflow_datasets as tfds

from segjax.data.records import Record
from segjax.datasets.downloads import Download
from segjax.datasets.public.hash_split import hash_fraction
from segjax.datasets.public.pairs import Files, PairBuilder, read_pair, read_texts

# Official training images whose hash fraction is higher are the validation split.
TRAIN_FRACTION = 0.85


class Dsb2018(PairBuilder):
    """Builds the data set from its archive."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION, CITATION = read_texts("dsb2018")
    HOMEPAGE = "https://github.com/stardist/stardist/releases/tag/0.1.0"
    LICENSE = "CC0 1.0"
    ARCHIVE = Download(
        url="https://github.com/stardist/stardist/releases/download/0.1.0/dsb2018.zip",
        filename="dsb2018.zip",
        max_bytes=2**28,
        # The checksum of torch-em, which downloads the same file.
        sha256="e44921950edce378063aa4457e625581ba35b4c2dbd9a07c19d48900129f386f",
    )

    IMAGES = ("train/images/*.tif", "test/images/*.tif")
    LAYOUT = "train/images/<id>.tif"

    @classmethod
    def select(cls, images: Sequence[PurePosixPath], split: str) -> list[PurePosixPath]:
        """Holds out some of the official training images as the validation split."""
        return [path for path in images if _split(path) == split]

    @classmethod
    def read_records(cls, files: Files, images: Sequence[PurePosixPath]) -> Iterator[Record]:
        """Reads `<folder>/images/<id>.tif` with `<folder>/masks/<id>.tif`."""
        for path in images:
            labels = files.get(path.parents[1] / "masks" / path.name)
            yield read_pair(path.stem, f"bbbc038/{path.stem}", files[path], labels)


def _split(path: PurePosixPath) -> str:
    if path.parts[-3] == "test":
        return "test"
    return "train" if hash_fraction(path.stem) < TRAIN_FRACTION else "validation"
