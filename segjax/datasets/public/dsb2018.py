"""The fluorescence images of the 2018 Data Science Bowl that StarDist was published with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data.records import Record
from segjax.datasets.archives import open_archive
from segjax.datasets.downloads import Download
from segjax.datasets.public.hash_split import share_of
from segjax.datasets.public.pairs import read_pair
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError

# Of the official training images, those whose hash is above go into the validation split.
TRAIN_SHARE = 0.85


class Dsb2018(CellBuilder):
    """Builds the data set from its archive."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION = (
        "The subset of the 2018 Data Science Bowl that StarDist was published with: 497 fluorescence images"
        " of nuclei, in the official splits (447, 50). Of the training images 15 %, by sha256 of their"
        " names, are the validation split. No patient or plate is published, so an image is a group of its"
        " own, the same as in BBBC038, whose images these are."
    )
    HOMEPAGE = "https://github.com/stardist/stardist/releases/tag/0.1.0"
    CITATION = """\
@inproceedings{schmidt2018cell,
  title={Cell detection with star-convex polygons},
  author={Schmidt, Uwe and Weigert, Martin and Broaddus, Coleman and Myers, Gene},
  booktitle={Medical Image Computing and Computer Assisted Intervention (MICCAI)},
  pages={265--273},
  year={2018},
  doi={10.1007/978-3-030-00934-2_30}
}"""
    LICENSE = "CC0 1.0"
    ARCHIVE = Download(
        url="https://github.com/stardist/stardist/releases/download/0.1.0/dsb2018.zip",
        filename="dsb2018.zip",
        max_bytes=2**28,
        # As torch-em has it, which downloads the same file.
        sha256="e44921950edce378063aa4457e625581ba35b4c2dbd9a07c19d48900129f386f",
    )

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the archive; its members are read where they are and never unpacked."""
        source = self.ARCHIVE.obtain(downloads)
        return {split: partial(_read_split, source, split) for split in ("train", "validation", "test")}


def _read_split(source: Path, split: str) -> Iterator[Record]:
    folder = "test" if split == "test" else "train"
    with open_archive(source) as files:
        images = [path for path in files if path.match(f"{folder}/images/*.tif")]
        if not images:
            raise InputError(
                f"{source} holds no {folder}/images/<id>.tif: put the archive there as it is downloaded"
            )
        for path in images:
            if folder == "test" or split == ("train" if share_of(path.stem) < TRAIN_SHARE else "validation"):
                labels = path.parents[1] / "masks" / path.name
                yield read_pair(path.stem, f"bbbc038/{path.stem}", files[path], files.get(labels))
