"""Nuclei and micronuclei of MNFinder: 48 fluorescence images of five cell lines, drawn by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import tensorflow_datasets as tfds
from scipy import ndimage

from segjax.data.pixel_size import read_pixel_size
from segjax.data.readers import read_image, read_labels
from segjax.data.records import Record
from segjax.datasets.packages import Wheel
from segjax.datasets.public.pairs import Files, PairBuilder, read_texts
from segjax.segmentation import Segmentation

NUCLEUS, MICRONUCLEUS = 1, 2
FOLDERS = {"train": "training-data", "validation": "validation-data", "test": "test-data"}
# Has the same pixels as training-data/2022-05-26_RPE1/images/1.tif, annotated a second time.
LEAKED = ("test-data", "2023-05-31_misc", "1")


class Mnfinder(PairBuilder):
    """Builds the data set from the wheel of the package that carries it."""

    VERSION = tfds.core.Version("1.1.0")
    CLASS_NAMES = ("background", "nucleus", "micronucleus")
    DESCRIPTION, CITATION = read_texts("mnfinder")
    HOMEPAGE = "https://github.com/hatch-lab/mnfinder"
    LICENSE = "MIT"
    ARCHIVE = Wheel(
        package="mnfinder",
        version="1.2.3",
        filename="mnfinder-1.2.3-py3-none-any.whl",
        sha256="11b1f6aea9f40b4dd3cf6c3de30ef8d517a4833907b88b86ce2b7ab1f9dbce4a",
    )

    IMAGES = tuple(f"mnfinder/{folder}/*/images/*.tif" for folder in FOLDERS.values())
    LAYOUT = "mnfinder/training-data/<set>/images/<name>.tif"

    @classmethod
    def select(cls, images: Sequence[PurePosixPath], split: str) -> list[PurePosixPath]:
        """Selects the official split, without the image that also is in the training split."""
        return [
            path
            for path in images
            if path.parts[1] == FOLDERS[split] and (*path.parts[1:3], path.stem) != LEAKED
        ]

    @classmethod
    def read_records(cls, files: Files, images: Sequence[PurePosixPath]) -> Iterator[Record]:
        """Reads `mnfinder/<split>/<set>/images/<name>.tif` with its two masks."""
        for path in images:
            folder, acquisition = path.parts[1:3]
            nuclei, micronuclei = (
                read_labels(files[path.parents[1] / kind / f"{path.stem}.png"])
                for kind in ("nucleus_masks", "mn_masks")
            )
            yield Record(
                name=f"{folder.removesuffix('-data')}_{acquisition}_{path.stem}",
                group=f"mnfinder/{acquisition}",
                image=read_image(files[path]),
                truth=combine(nuclei, micronuclei),
                pixel_size=read_pixel_size(files[path]),
            )


def combine(nuclei: np.ndarray, micronuclei: np.ndarray) -> Segmentation:
    """Combines the two label maps of one image.

    A micronucleus has the colour of its parent nucleus, which may have several, so every 8-connected
    fragment of a colour is one instance. A nucleus is all pixels of its colour, even in several pieces. Where
    both maps label a pixel the micronucleus wins.

    Args:
      nuclei: [H, W] int32, 0 is background, gaps allowed.
      micronuclei: [H, W] int32, 0 is background, gaps allowed.

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
