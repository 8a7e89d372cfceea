"""Nuclei in stained tissue of 31 organs of people and mice (NuInsSeg): 665 pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import tensorflow_datasets as tfds

from segjax.data.records import Record
from segjax.datasets.downloads import Download
from segjax.datasets.public.hash_split import select_groups
from segjax.datasets.public.pairs import Files, PairBuilder, read_pair, read_texts


class Nuinsseg(PairBuilder):
    """Builds the data set from its archive."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION, CITATION = read_texts("nuinsseg")
    HOMEPAGE = "https://github.com/masih4/NuInsSeg"
    LICENSE = "CC BY 4.0"
    # 1.6 GB; its sha256 is not published.
    ARCHIVE = Download(
        url="https://zenodo.org/records/10518968/files/NuInsSeg.zip",
        filename="NuInsSeg.zip",
        max_bytes=2**32,
    )

    IMAGES = ("*/tissue images/*.png",)
    LAYOUT = "<organ>/tissue images/<name>.png"

    @classmethod
    def select(cls, images: Sequence[PurePosixPath], split: str) -> list[PurePosixPath]:
        """Splits by organ."""
        return select_groups(images, _group, split)

    @classmethod
    def read_records(cls, files: Files, images: Sequence[PurePosixPath]) -> Iterator[Record]:
        """Reads `<organ>/tissue images/<name>.png` with `<organ>/label masks modify/<name>.tif`."""
        for path in images:
            labels = files.get(path.parents[1] / "label masks modify" / f"{path.stem}.tif")
            yield read_pair(path.stem, _group(path), files[path], labels)


def _group(path: PurePosixPath) -> str:
    return f"nuinsseg/{path.parents[1].name}"
