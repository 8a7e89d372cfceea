"""The raw annotation of one image, the protocol of annotations of many, and the names of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from segjax.data.readers import File
from segjax.errors import InputError
from segjax.segmentation import Cutout, paint
from segjax.typing import IGNORE

# Names that tools write for "no class" and "do not evaluate"; neither is a class of instances.
BACKGROUND = ("background", "_background_")
IGNORED = "__ignore__"
# Kinds of errors that are raised at one entry but concern all annotations of the image.
CONCERN_ALL = ("size_mismatch", "invalid_class")

Entry = TypeVar("Entry")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class RawAnnotation:
    """The unrepaired annotation of one image.

    Attributes:
      labels: [H, W] int32, 0 is background; ids may have gaps.
      classes: class of an id, 1..K-1; ids that are missing here are of class 1.
      files: paths of the files that were read.
      lossy: whether it comes from a JPEG, which alters ids and edges.
      binary: whether it is a foreground mask of one value and several parts in a format that has ids.
      num_crowds: number of regions to ignore that are marked as crowds.
      invalid: for each outline or mask that is left out because it is invalid, what is wrong with it.
      num_hidden: number of outlines or masks that cover no pixel or are fully covered by others.
      ignore: [H, W] bool, pixels that losses and metrics leave out; None if there are none.
      scores: score of each id of a prediction; ids that are missing here have the score 1.
    """

    labels: np.ndarray
    classes: Mapping[int, int] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()
    lossy: bool = False
    binary: bool = False
    num_hidden: int = 0
    num_crowds: int = 0
    invalid: tuple[str, ...] = ()
    ignore: np.ndarray | None = None
    scores: Mapping[int, float] = dataclasses.field(default_factory=dict)


class Annotations(Protocol):
    """The annotations of a folder of images. Instances are picklable, as worker processes read them.

    The key of an image is its path relative to the folder of images, without suffix, with `/` as separator.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of class 0 (background), 1, ..."""

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the annotated images."""

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads the annotation of one image of shape `(H, W)`.

        Raises:
          InputError: if there is none, it is damaged, or it belongs to an image of another shape.
        """


def check_shape(where: File | str, annotated: tuple[int, ...], shape: tuple[int, int]) -> None:
    """Refuses an annotation if its shape `annotated`, `(H, W)`, differs from the shape of its image.

    Raises:
      InputError: names both shapes; `where` is the file, and the entry in it.
    """
    if tuple(annotated) != tuple(shape):
        raise InputError(
            f"{where} is {annotated[0]} x {annotated[1]} pixels but its image {shape[0]} x {shape[1]}; export"
            " it again from the image it was drawn on",
            kind="size_mismatch",
        )


def read_valid(entries: Iterable[Entry], read: Callable[[Entry], T]) -> tuple[list[T], tuple[str, ...]]:
    """Reads the entries of the annotation of one image, and leaves out those that are invalid.

    Args:
      entries: outlines or masks, not read yet.
      read: reads one of them, and raises an `InputError` if it is invalid.

    Returns:
      What `read` returns for the valid entries, and `RawAnnotation.invalid`.

    Raises:
      InputError: if an error concerns all entries, such as an image of another size or an unknown class.
    """
    valid, invalid = [], []
    for entry in entries:
        try:
            valid.append(read(entry))
        except InputError as error:
            if error.kind in CONCERN_ALL:
                raise
            invalid.append(str(error))
    return valid, tuple(invalid)


def rasterize_instances(
    masks: Sequence[Cutout],
    shape: tuple[int, int],
    *,
    classes: Sequence[int],
    files: tuple[str, ...],
    smaller_on_top: bool = True,
    lossy: bool = False,
    invalid: tuple[str, ...] = (),
) -> RawAnnotation:
    """Makes an annotation from one mask for each instance.

    Args:
      masks: one for each instance; ids are 1, 2, ... in this order.
      shape: `(H, W)`.
      classes: class of each instance; pixels of `IGNORE` become pixels to ignore.
      files: paths of the files that were read.
      smaller_on_top: which of two overlapping instances is visible, see `segmentation.paint`.
      lossy: whether one of the files is a JPEG.
      invalid: what is wrong with the instances that are left out, see `read_valid`.
    """
    labels = paint(masks, shape, smaller_on_top=smaller_on_top)
    ignore = np.concatenate([[False], np.asarray(classes) == IGNORE])[labels]
    labels[ignore] = 0
    visible = np.unique(labels[labels > 0]).tolist()
    return RawAnnotation(
        labels,
        {index: classes[index - 1] for index in visible},
        files,
        lossy=lossy,
        invalid=invalid,
        num_hidden=sum(index != IGNORE for index in classes) - len(visible),
        ignore=ignore if ignore.any() else None,
    )


def names_in(files: Iterable[Path], read: Callable[[Path], Iterable[str]]) -> list[str]:
    """Collects the class names of all files, sorted.

    A damaged file is skipped, so that the others stay usable. Its error is raised when its image is read.
    """
    names: set[str] = set()
    for path in files:
        try:
            names.update(read(path))
        except InputError:
            continue
    return sorted(names)


def class_of(name: str | None, class_names: tuple[str, ...], where: str) -> int:
    """Returns the class of an instance by its name.

    Args:
      name: class name in the annotation file. It may be None if there is only one class.
      class_names: background first.
      where: file, entry and field, for errors.

    Raises:
      InputError: if there is no class of this name.
    """
    if name is None and len(class_names) == 2:
        return 1
    if name in class_names[1:]:
        return class_names.index(name, 1)
    written = "is missing" if name is None else f"is {name!r}"
    raise InputError(f"{where} {written}; the classes are {', '.join(class_names[1:])}", kind="invalid_class")
