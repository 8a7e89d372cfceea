"""What an annotator drew on one image, before anything is repaired, and what gives access to many."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from segjax.data.readers import File
from segjax.errors import InputError
from segjax.segmentation import Cutout, paint
from segjax.typing import IGNORE


@dataclasses.dataclass(frozen=True, eq=False)
class RawAnnotation:
    """The annotation of one image as it is in its files.

    Attributes:
      labels: [H, W] int32, 0 background, ids as in the source: gaps are allowed.
      classes: the class of an id, 1..K-1; ids that are not in it are of class 1.
      files: what it was read from.
      lossy: it comes from a JPEG, which alters ids and edges.
      binary: a foreground mask of one value and several parts, although instances were asked for; it is
        left as it is stored.
      unseen: how many outlines or masks cover no pixel, or are covered whole by others.
      ignore: [H, W] bool, pixels that neither a loss nor a metric may judge; None where there are none.
    """

    labels: np.ndarray
    classes: Mapping[int, int]
    files: tuple[str, ...]
    lossy: bool = False
    binary: bool = False
    unseen: int = 0
    ignore: np.ndarray | None = None


class Annotations(Protocol):
    """What preparing a data set knows of its annotations. Must be picklable: worker processes read.

    An image's key is its path relative to the images' folder, without suffix, with `/` between folders.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of class 0 (background), 1, ..."""

    @property
    def keys(self) -> frozenset[str]:
        """Of the images that are annotated."""

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads what was drawn on one image of `(H, W)`.

        Raises:
          InputError: if there is nothing of that key, it cannot be read, or belongs to another shape.
        """


def check_shape(where: File | str, found: tuple[int, ...], shape: tuple[int, int]) -> None:
    """Refuses an annotation of another size than its image.

    Raises:
      InputError: if `found`, `(H, W)` of the annotation, is not `shape`, that of the image.
    """
    if tuple(found) != tuple(shape):
        raise InputError(
            f"{where} is {found[0]} x {found[1]} pixels but its image {shape[0]} x {shape[1]}; export it"
            " again from the image it was drawn on"
        )


def rasterize_instances(
    cutouts: Sequence[Cutout],
    shape: tuple[int, int],
    *,
    classes: Sequence[int],
    files: tuple[str, ...],
    smaller_on_top: bool = True,
    lossy: bool = False,
) -> RawAnnotation:
    """Makes a drawing of instances that have a mask each.

    Args:
      cutouts: one for each instance; its id is its place in the sequence, from 1.
      shape: `(H, W)`.
      classes: of each instance; `IGNORE` makes its pixels pixels to be ignored.
      files: what was read.
      smaller_on_top: which of two that overlap is seen, see `segmentation.paint`.
      lossy: whether a JPEG was among the files.

    Returns:
      The drawing.
    """
    labels = paint(cutouts, shape, smaller_on_top=smaller_on_top)
    ignore = np.concatenate([[False], np.asarray(classes) == IGNORE])[labels]
    labels[ignore] = 0
    seen = np.unique(labels[labels > 0]).tolist()
    return RawAnnotation(
        labels,
        {index: classes[index - 1] for index in seen},
        files,
        lossy=lossy,
        unseen=sum(kind != IGNORE for kind in classes) - len(seen),
        ignore=ignore if ignore.any() else None,
    )
