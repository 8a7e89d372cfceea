"""Nuclei and micronuclei of MNFinder: 48 fluorescence images of five cell lines, drawn by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow_datasets as tfds
from scipy import ndimage

from segjax.data.pixel_size import read_pixel_size
from segjax.data.readers import File, read_image, read_labels
from segjax.data.records import Record
from segjax.datasets.archives import open_archive
from segjax.datasets.packages import Wheel
from segjax.datasets.store.builder import CellBuilder
from segjax.segmentation import Segmentation

NUCLEUS, MICRONUCLEUS = 1, 2
SPLITS = {"train": "training-data", "validation": "validation-data", "test": "test-data"}
# The same pixels as training-data/2022-05-26_RPE1/images/1.tif, annotated a second time.
LEAKED = ("test-data", "2023-05-31_misc", "1")


class Mnfinder(CellBuilder):
    """Builds the data set from the wheel of the package that carries it."""

    VERSION = tfds.core.Version("1.1.0")
    CLASS_NAMES = ("background", "nucleus", "micronucleus")
    DESCRIPTION = (
        "Fluorescence images (DAPI or H2B) of U2OS, RPE1, HeLa, HFF and MCC13 cells with every nucleus and"
        " micronucleus drawn by hand, in the official splits. One image of the official test split also lies"
        " in the training split and is left out of test. Cell lines, stains and magnifications of the test"
        " split differ from those of most training images: it measures a domain shift."
    )
    HOMEPAGE = "https://github.com/hatch-lab/mnfinder"
    CITATION = """\
@article{dipeso2023micronucleated,
  title={Image-based identification and isolation of micronucleated cells to dissect cellular consequences},
  author={DiPeso, Lucian and Pendyala, Sriram and Huang, Heather Z and Fowler, Douglas M and Hatch, Emily M},
  journal={bioRxiv},
  year={2023},
  doi={10.1101/2023.05.04.539483}
}"""
    LICENSE = "MIT"
    WHEEL = Wheel(
        package="mnfinder",
        version="1.2.3",
        filename="mnfinder-1.2.3-py3-none-any.whl",
        sha256="11b1f6aea9f40b4dd3cf6c3de30ef8d517a4833907b88b86ce2b7ab1f9dbce4a",
    )

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the wheel; its members are read where they are and never unpacked."""
        wheel = self.WHEEL.obtain(downloads)
        return {split: partial(_read_split, wheel, folder) for split, folder in SPLITS.items()}


def _read_split(wheel: Path, folder: str) -> Iterator[Record]:
    with open_archive(wheel) as files:
        for image in files:
            of_split = image.match(f"mnfinder/{folder}/*/images/*.tif")
            if of_split and (folder, image.parts[2], image.stem) != LEAKED:
                yield _read_record(files, image)


def _read_record(files: Mapping[PurePosixPath, File], image: PurePosixPath) -> Record:
    """Reads `mnfinder/<split>/<set>/images/<name>.tif` with its two masks."""
    split, acquisition = image.parts[1], image.parts[2]

    def mask(kind: str) -> np.ndarray:
        return read_labels(files[image.parent.parent / kind / f"{image.stem}.png"])

    return Record(
        name=f"{split.removesuffix('-data')}_{acquisition}_{image.stem}",
        group=f"mnfinder/{acquisition}",
        image=read_image(files[image]),
        truth=combine(mask("nucleus_masks"), mask("mn_masks")),
        pixel_size=read_pixel_size(files[image]),
    )


def combine(nuclei: np.ndarray, micronuclei: np.ndarray) -> Segmentation:
    """Joins the two maps of one image.

    A micronucleus has the colour of its parent, and a parent may have several, so every 8-connected fragment
    of that colour is an instance of its own. A nucleus is all pixels of its colour, even where the
    annotator left it in pieces. In the few pixels that both claim the micronucleus wins.

    Args:
      nuclei: [H, W] int32, 0 is background, gaps allowed.
      micronuclei: [H, W] int32, likewise.

    Returns:
      The segmentation: nuclei first, then micronuclei.
    """
    labels = nuclei.copy()
    offset = int(nuclei.max(initial=0))
    next_id = offset
    for colour in np.unique(micronuclei[micronuclei > 0]):
        fragments, count = ndimage.label(micronuclei == colour, structure=np.ones((3, 3)))
        labels = np.where(fragments > 0, fragments + next_id, labels)
        next_id += count
    ids = np.unique(labels[labels > 0])
    return Segmentation.from_labels(labels, classes=np.where(ids <= offset, NUCLEUS, MICRONUCLEUS))
