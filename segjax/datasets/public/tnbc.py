"""Nuclei in stained tissue of triple-negative breast cancer: 50 pictures of eleven patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import tensorflow_datasets as tfds

from segjax.data.records import Record
from segjax.datasets.downloads import Download
from segjax.datasets.public.hash_split import select_groups
from segjax.datasets.public.pairs import Files, PairBuilder, read_components, read_pair, read_texts


class Tnbc(PairBuilder):
    """Builds the data set from its archive."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION, CITATION = read_texts("tnbc")
    HOMEPAGE = "https://doi.org/10.5281/zenodo.1175282"
    LICENSE = "CC BY 4.0"
    ARCHIVE = Download(
        url="https://zenodo.org/records/1175282/files/TNBC_NucleiSegmentation.zip",
        filename="TNBC_NucleiSegmentation.zip",
        max_bytes=2**27,
        # The checksum of torch-em, which downloads the same file.
        sha256="da708c3a988f4ad4b9bbb9283b387faf703f0bc0e5e689927306bd27ea13a57f",
    )

    IMAGES = ("Slide_*/*.png",)
    LAYOUT = "Slide_<n>/<name>.png"

    @classmethod
    def select(cls, images: Sequence[PurePosixPath], split: str) -> list[PurePosixPath]:
        """Splits by slide."""
        return select_groups(images, _group, split)

    @classmethod
    def read_records(cls, files: Files, images: Sequence[PurePosixPath]) -> Iterator[Record]:
        """Reads `Slide_<n>/<name>.png` with the mask `GT_<n>/<name>.png`."""
        for path in images:
            slide = path.parent.name
            mask = files.get(path.parent.with_name(slide.replace("Slide_", "GT_")) / path.name)
            name = f"{slide}_{path.stem}"
            yield read_pair(name, _group(path), files[path], mask, read=read_components)


def _group(path: PurePosixPath) -> str:
    return f"tnbc/{path.parent.name}"
