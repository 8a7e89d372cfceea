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
from segjax.datasets.public.pairs import SPLITS, read_texts
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError
from segjax.segmentation import Segmentation

PAGE = "https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke"
LICENCE = "CC BY-NC-SA 4.0 (no commercial use)"
SIDE = 256
# The masks of a fold have 8.4 GB unpacked; one image at a time is read.
MAX_MEMBER_BYTES = 2**34


class Pannuke(CellBuilder):
    """Builds the data set from the archives of its three folds, downloaded by hand."""

    VERSION = tfds.core.Version("1.0.0")
    CLASS_NAMES = ("background", "neoplastic", "inflammatory", "connective", "dead", "epithelial")
    DESCRIPTION, CITATION = read_texts("pannuke")
    HOMEPAGE = PAGE
    LICENSE = LICENCE
    FOLDS = tuple(ManualDownload(f"pannuke/fold_{fold}.zip", PAGE, LICENCE) for fold in (1, 2, 3))

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the archives. Their members are read where they are and never unpacked."""
        sources = [fold.obtain(downloads) for fold in self.FOLDS]
        return {
            split: partial(_read_fold, source, fold)
            for fold, (split, source) in enumerate(zip(SPLITS, sources, strict=True), start=1)
        }


def join_channels(masks: np.ndarray) -> Segmentation:
    """Combines the label maps of the classes.

    Args:
      masks: [H, W, 6], integers: channel k holds the ids of class k + 1 and 0 elsewhere; the last channel,
        background, is not used. Equal ids in two channels are two nuclei.

    Returns:
      The segmentation, with instances by ascending class. Where classes overlap the later one wins.
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
        arrays = {path.name: file for path, file in files.items()}
        for name in ("images.npy", "masks.npy"):
            if name not in arrays:
                raise InputError(f"{source} holds no {name}: put the original archive there, unmodified")
        images = iterate_array(arrays["images.npy"], (SIDE, SIDE, 3))
        masks = iterate_array(arrays["masks.npy"], (SIDE, SIDE, len(Pannuke.CLASS_NAMES)))
        for index, (image, channels) in enumerate(zip_longest(images, masks)):
            name = f"fold{fold}_{index:04d}"
            if image is None or channels is None:
                raise InputError(f"{source} has different numbers of images and masks: download it again")
            if not _are_integers(image, 255) or not _are_integers(channels, np.iinfo(np.int32).max):
                raise InputError(
                    f"{source} holds an image outside 0 to 255 or an id below 0 at {index}: download it again"
                )
            # 8-bit pixels are published as float64.
            yield Record(name, f"pannuke/{name}", image.astype(np.uint8), join_channels(channels))


def _are_integers(numbers: np.ndarray, largest: int) -> bool:
    in_range = np.isfinite(numbers).all() and numbers.min() >= 0 and numbers.max() <= largest
    return bool(in_range and (numbers == np.round(numbers)).all())
