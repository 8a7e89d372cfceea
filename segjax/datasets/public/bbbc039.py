"""Nuclei of U2OS cells in a chemical screen (BBBC039): 200 fluorescence images of one microscope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data.records import Record
from segjax.datasets.archives import open_archive, read_lines
from segjax.datasets.downloads import Download
from segjax.datasets.public.pairs import read_components, read_pair, read_texts
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError

ADDRESS = "https://data.broadinstitute.org/bbbc/BBBC039"
SPLITS = {"train": "training.txt", "validation": "validation.txt", "test": "test.txt"}


class Bbbc039(CellBuilder):
    """Builds the data set from its three archives."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "nucleus")
    DESCRIPTION, CITATION = read_texts("bbbc039")
    HOMEPAGE = "https://bbbc.broadinstitute.org/BBBC039"
    LICENSE = "CC0 1.0"
    # The checksums are not published. The archives have 78 MB, 3 MB and 18 kB.
    ARCHIVES = tuple(
        Download(url=f"{ADDRESS}/{name}.zip", filename=f"bbbc039/{name}.zip", max_bytes=limit)
        for name, limit in (("images", 2**27), ("masks", 2**24), ("metadata", 2**20))
    )

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the archives. Their members are read where they are and never unpacked."""
        images, masks, metadata = (archive.obtain(downloads) for archive in self.ARCHIVES)
        return {split: partial(_read_split, images, masks, metadata, SPLITS[split]) for split in SPLITS}


def _read_split(images: Path, masks: Path, metadata: Path, listing: str) -> Iterator[Record]:
    with open_archive(metadata) as files:
        list_file = next((file for path, file in files.items() if path.name == listing), None)
        if list_file is None:
            raise InputError(f"{metadata} holds no {listing}: put the original file there, unmodified")
        names = [Path(line).stem for line in read_lines(list_file)]
    with open_archive(images) as image_files, open_archive(masks) as mask_files:
        image_by_name = {path.stem: file for path, file in image_files.items() if path.suffix == ".tif"}
        mask_by_name = {path.stem: file for path, file in mask_files.items() if path.suffix == ".png"}
        for name in names:
            if name not in image_by_name:
                raise InputError(f"{images} holds no {name}.tif, which {listing} lists: download it again")
            image, mask = image_by_name[name], mask_by_name.get(name)
            yield read_pair(name, f"bbbc039/{name}", image, mask, read=read_components)
