"""Nuclei of five kinds in stained tissue of 19 organs (PanNuke): 7901 pictures in three folds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from segjax.data.records import Record
from segjax.datasets.archives import open_archive
from segjax.datasets.arrays import iterate_array
from segjax.datasets.downloads import ManualDownload
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError
from segjax.segmentation import Segmentation

PAGE = "https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke"
LICENCE = "CC BY-NC-SA 4.0 (no commercial use)"
SIDE = 256
# The masks of a fold have 8.4 GB when unpacked, of which one picture at a time is read.
MAX_MEMBER_BYTES = 2**34


class Pannuke(CellBuilder):
    """Builds the data set from the archives of its three folds, put by hand."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "neoplastic", "inflammatory", "connective", "dead", "epithelial")
    DESCRIPTION = (
        "Tissue of 19 organs, stained with H&E, at 40x: 7901 pictures of 256 x 256 pixels, whose nuclei"
        " were found half automatically, with one of five classes each. Fold 1 is train, fold 2 validation,"
        " fold 3 test; for the other two rounds of the official protocol give config.dataset other splits."
        " No patient is published, only the folds, so a picture is a group of its own. Where nuclei of two"
        " classes overlap the later class wins."
    )
    HOMEPAGE = PAGE
    CITATION = """\
@article{gamper2020pannuke,
  title={PanNuke dataset extension, insights and baselines},
  author={Gamper, Jevgenij and Koohbanani, Navid Alemi and Benes, Ksenija and others},
  journal={arXiv:2003.10778},
  year={2020}
}"""
    LICENSE = LICENCE
    FOLDS = tuple(ManualDownload(f"pannuke/fold_{fold}.zip", PAGE, LICENCE) for fold in (1, 2, 3))

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Finds the archives; their members are read where they are and never unpacked."""
        found = [fold.obtain(downloads) for fold in self.FOLDS]
        return {
            split: partial(_read_fold, source, fold)
            for fold, (split, source) in enumerate(
                zip(("train", "validation", "test"), found, strict=True), start=1
            )
        }


def join_channels(masks: np.ndarray) -> Segmentation:
    """Joins the instances of each class.

    Args:
      masks: [H, W, 6], whole numbers: in channel k the ids of class k + 1, 0 elsewhere; the last channel, of
        background, is not used. An id may come again in another channel, as another nucleus.

    Returns:
      The segmentation, instances by ascending class; where classes overlap the later one wins.
    """
    labels = np.zeros(masks.shape[:2], np.int32)
    classes: list[int] = []
    for channel in range(masks.shape[-1] - 1):
        ids, dense = np.unique(masks[..., channel], return_inverse=True)
        dense = dense.reshape(labels.shape) + (0 if ids[0] == 0 else 1)
        labels = np.where(dense > 0, dense + len(classes), labels)
        classes += [channel + 1] * int((ids != 0).sum())
    present = np.unique(labels[labels > 0])
    return Segmentation.from_labels(labels, classes=np.array(classes, np.int32)[present - 1])


def _read_fold(source: Path, fold: int) -> Iterator[Record]:
    with open_archive(source, max_member_bytes=MAX_MEMBER_BYTES) as files:
        found = {path.name: file for path, file in files.items()}
        for name in ("images.npy", "masks.npy"):
            if name not in found:
                raise InputError(f"{source} holds no {name}: put the archive there as it is downloaded")
        images = iterate_array(found["images.npy"], (SIDE, SIDE, 3))
        masks = iterate_array(found["masks.npy"], (SIDE, SIDE, len(Pannuke.CLASS_NAMES)))
        for index, (image, channels) in enumerate(zip_longest(images, masks)):
            name = f"fold{fold}_{index:04d}"
            if image is None or channels is None:
                raise InputError(f"{source} has more images than masks or fewer: download it again")
            if not _are_whole(image, 255) or not _are_whole(channels, np.iinfo(np.int32).max):
                raise InputError(
                    f"{source} holds an image outside 0 to 255 or an id below 0 at {index}: download it again"
                )
            # 8-bit pixels are published as float64.
            yield Record(name, f"pannuke/{name}", image.astype(np.uint8), join_channels(channels))


def _are_whole(numbers: np.ndarray, largest: int) -> bool:
    in_range = np.isfinite(numbers).all() and numbers.min() >= 0 and numbers.max() <= largest
    return bool(in_range and (numbers == np.round(numbers)).all())
