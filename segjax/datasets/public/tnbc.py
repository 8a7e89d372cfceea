"""Nuclei in stained tissue of triple-negative breast cancer: 50 pictures of eleven patients."""

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
from segjax.datasets.public.pairs import read_components, read_pair
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError


class Tnbc(CellBuilder):
    """Builds the data set from its archive."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION = (
        "Tissue of triple-negative breast cancer, stained with H&E, at 40x: 50 pictures of 512 x 512 pixels"
        " of eleven patients, a slide of each, with every nucleus drawn. The published masks are binary:"
        " their 8-connected regions are the nuclei, so nuclei that touch are one. A slide is a group; no"
        " split is official, so slides are split in the order of sha256 of their group's id, 60 % train, 20"
        " % validation, 20 % test."
    )
    HOMEPAGE = "https://doi.org/10.5281/zenodo.1175282"
    CITATION = """\
@article{naylor2019segmentation,
  title={Segmentation of nuclei in histopathology images by deep regression of the distance map},
  author={Naylor, Peter and La{\\'e}, Marick and Reyal, Fabien and Walter, Thomas},
  journal={IEEE Transactions on Medical Imaging},
  volume={38},
  pages={448--459},
  year={2019},
  doi={10.1109/TMI.2018.2865709}
}"""
    LICENSE = "CC BY 4.0"
    ARCHIVE = Download(
        url="https://zenodo.org/records/1175282/files/TNBC_NucleiSegmentation.zip",
        filename="TNBC_NucleiSegmentation.zip",
        max_bytes=2**27,
        # As torch-em has it, which downloads the same file.
        sha256="da708c3a988f4ad4b9bbb9283b387faf703f0bc0e5e689927306bd27ea13a57f",
    )

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the archive; its members are read where they are and never unpacked."""
        source = self.ARCHIVE.obtain(downloads)
        return {split: partial(_read_split, source, split) for split in ("train", "validation", "test")}


def _read_split(source: Path, split: str) -> Iterator[Record]:
    with open_archive(source) as files:
        images = [path for path in files if path.match("Slide_*/*.png")]
        if not images:
            raise InputError(
                f"{source} holds no Slide_<n>/<name>.png: put the archive there as it is downloaded"
            )
        split_of = split_groups(_group(path) for path in images)
        for path in images:
            if split_of[_group(path)] == split:
                yield _read_record(files, path)


def _read_record(files: Mapping[PurePosixPath, File], path: PurePosixPath) -> Record:
    """Reads `Slide_<n>/<name>.png` with the mask `GT_<n>/<name>.png`."""
    slide = path.parent.name
    mask = path.parent.with_name(slide.replace("Slide_", "GT_")) / path.name
    return read_pair(f"{slide}_{path.stem}", _group(path), files[path], files.get(mask), read=read_components)


def _group(path: PurePosixPath) -> str:
    return f"tnbc/{path.parent.name}"
