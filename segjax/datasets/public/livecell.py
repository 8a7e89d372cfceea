"""Living cells of eight lines in phase contrast (LIVECell): 5239 images with outlines in COCO's format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data.readers import read_image
from segjax.data.records import Record
from segjax.datasets.archives import open_archive
from segjax.datasets.downloads import ManualDownload
from segjax.datasets.formats.coco import annotations_by_image, instance_mask
from segjax.datasets.formats.documents import JsonField
from segjax.datasets.public.pairs import check_size, read_texts
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError
from segjax.segmentation import Segmentation, paint

PAGE = "https://sartorius-research.github.io/LIVECell/"
LICENCE = "CC BY-NC 4.0 (no commercial use)"
SPLITS = {"train": "train", "validation": "val", "test": "test"}
MAX_JSON_BYTES = 2**31
# A172_Phase_C7_1_00d00h00m_1.tif: line, well, location, time, crop.
FILE_NAME = re.compile(r"(?P<line>[^_]+)_Phase_(?P<well>[A-Z]+\d+)_.+\.tif")


class Livecell(CellBuilder):
    """Builds the data set from an archive of images and three COCO files, downloaded by hand."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "cell")
    DESCRIPTION, CITATION = read_texts("livecell")
    HOMEPAGE = PAGE
    LICENSE = LICENCE
    IMAGES = ManualDownload("livecell/images.zip", PAGE, LICENCE)
    ANNOTATIONS = tuple(
        ManualDownload(f"livecell/livecell_coco_{part}.json", PAGE, LICENCE) for part in SPLITS.values()
    )

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the files. Members of the archive are read where they are and never unpacked."""
        images = self.IMAGES.obtain(downloads)
        annotations = [part.obtain(downloads) for part in self.ANNOTATIONS]
        return {
            split: partial(_read_split, images, path) for split, path in zip(SPLITS, annotations, strict=True)
        }


def well_of(file_name: str) -> str | None:
    """Returns line and well of an image, such as `A172_C7`, or None if the name has another form."""
    parts = FILE_NAME.fullmatch(file_name)
    return None if parts is None else f"{parts['line']}_{parts['well']}"


def _read_split(images: Path, path: Path) -> Iterator[Record]:
    document = JsonField.load(path, max_bytes=MAX_JSON_BYTES)
    entries = [(image.get("file_name", str), image, cells) for image, cells in annotations_by_image(document)]
    with open_archive(images) as files:
        by_name = {inside.name: file for inside, file in files.items() if inside.suffix == ".tif"}
        for name, entry, cells in sorted(entries, key=lambda entry: entry[0]):
            well = well_of(name)
            if well is None or name not in by_name:
                raise InputError(f"{images} holds no image {name!r} that {path} lists: download both again")
            image = read_image(by_name[name])
            shape = (entry.get("height", int), entry.get("width", int))
            check_size(path, shape, image)
            masks = [instance_mask(cell, shape, clip=True) for cell in cells]
            truth = Segmentation.from_labels(paint(masks, shape))
            yield Record(Path(name).stem, f"livecell/{well}", image, truth)
