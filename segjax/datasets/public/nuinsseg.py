"""Nuclei in stained tissue of 31 organs of people and mice (NuInsSeg): 665 pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from segjax.data.readers import File
from segjax.data.records import Record
from segjax.datasets.archives import open_archive
from segjax.datasets.downloads import Download
from segjax.datasets.public.hash_split import split_groups
from segjax.datasets.public.pairs import read_pair
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError


class Nuinsseg(CellBuilder):
    """Builds the data set from its archive."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION = (
        "Tissue of 31 organs of people and mice, stained with H&E: 665 pictures of 512 x 512 pixels with"
        " every nucleus drawn. The pictures of an organ come from one slide and are one group; no split by"
        " slide is official, so organs are split in the order of sha256 of their group's id, 60 % train, 20"
        " % validation, 20 % test. The published masks of vague areas are not read."
    )
    HOMEPAGE = "https://github.com/masih4/NuInsSeg"
    CITATION = """\
@article{mahbod2024nuinsseg,
  title={NuInsSeg: a fully annotated dataset for nuclei instance segmentation
    in H&E-stained histological images},
  author={Mahbod, Amirreza and Polak, Christine and Feldmann, Katharina and others},
  journal={Scientific Data},
  volume={11},
  pages={295},
  year={2024},
  doi={10.1038/s41597-024-03117-2}
}"""
    LICENSE = "CC BY 4.0"
    # 1.6 GB; nobody publishes its sha256.
    ARCHIVE = Download(
        url="https://zenodo.org/records/10518968/files/NuInsSeg.zip",
        filename="NuInsSeg.zip",
        max_bytes=2**32,
    )

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the archive; its members are read where they are and never unpacked."""
        source = self.ARCHIVE.obtain(downloads)
        return {split: partial(_read_split, source, split) for split in ("train", "validation", "test")}


def _read_split(source: Path, split: str) -> Iterator[Record]:
    with open_archive(source) as files:
        images = [path for path in files if path.match("*/tissue images/*.png")]
        if not images:
            raise InputError(
                f"{source} holds no <organ>/tissue images/<name>.png: put the archive there as it is"
                " downloaded"
            )
        split_of = split_groups(_group(path) for path in images)
        for path in images:
            if split_of[_group(path)] == split:
                yield _read_record(files, path)


def _read_record(files: Mapping[PurePosixPath, File], path: PurePosixPath) -> Record:
    """Reads `<organ>/tissue images/<name>.png` with `<organ>/label masks modify/<name>.tif`."""
    labels = path.parents[1] / "label masks modify" / f"{path.stem}.tif"
    return read_pair(path.stem, _group(path), files[path], files.get(labels))


def _group(path: PurePosixPath) -> str:
    return f"nuinsseg/{path.parents[1].name}"
