"""What many data sets are: pictures, and beside each another one that says which pixels are which cell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage.measure import label

from segjax.data.readers import File, read_image, read_labels
from segjax.data.records import Record
from segjax.errors import InputError
from segjax.segmentation import Segmentation


def read_pair(
    name: str,
    group: str,
    image: File,
    labels: File | None,
    *,
    read: Callable[[File], np.ndarray] = read_labels,
) -> Record:
    """Reads a picture and its labels, all of class 1.

    Args:
      name: of the record.
      group: likewise.
      image: the picture.
      labels: the picture of the labels; None if it is not there.
      read: makes a label map [H, W] of it.

    Raises:
      InputError: if one is missing or damaged, or they differ in size.
    """
    if labels is None:
        raise InputError(f"{image} has no picture of its labels beside it: download the data set again")
    pixels, ids = read_image(image), read(labels)
    check_size(labels, ids.shape, pixels)
    return Record(name=name, group=group, image=pixels, truth=Segmentation.from_labels(ids))


def read_components(file: File) -> np.ndarray:
    """Numbers the 8-connected regions of one value of the first channel, [H, W] int32; 0 is background."""
    return label(read_image(file)[..., 0], background=0, connectivity=2).astype(np.int32)


def check_size(annotation: File, shape: tuple[int, ...], image: np.ndarray) -> None:
    """Refuses an annotation of another size than its image.

    Raises:
      InputError: naming the annotation.
    """
    if shape != image.shape[:2]:
        raise InputError(f"{annotation} is {shape}, but its image is {image.shape[:2]}: download it again")
