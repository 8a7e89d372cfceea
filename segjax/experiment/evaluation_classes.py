"""The classes in which a truth and predictions of any program are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from segjax.classical.settings import Watershed
from segjax.data.records import Record, Source
from segjax.errors import InputError
from segjax.experiment.evaluation_folders import PredictionFolder
from segjax.segmentation import Method, Segmentation

# The class of small instances in MNFinder, for which the configs have a reference that knows it.
SMALL = "micronucleus"
# The classes of formats without classes, and of files with no other class.
NO_CLASSES = ("background", "cell")


class OneClassSource:
    """The records of a source with all instances in one class; see `in_one_class`.

    Attributes:
      class_names: background, and the name of the class.
    """

    def __init__(self, source: Source, class_names: tuple[str, ...]) -> None:
        self.class_names, self._source = class_names, source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record = self._source[index]
        return dataclasses.replace(record, truth=in_one_class(record.truth))


def in_one_class(segmentation: Segmentation) -> Segmentation:
    """Returns a segmentation with all instances in class 1."""
    return Segmentation.from_labels(
        segmentation.labels, scores=segmentation.scores, semantic=np.minimum(segmentation.semantic, 1)
    )


def within_classes(method: Method, count: int) -> Method:
    """Returns a method whose instances of a class from `count` on are of class 1."""

    def segment(image: np.ndarray) -> Segmentation:
        result = method(image)
        classes, semantic = (np.where(one < count, one, 1) for one in (result.classes, result.semantic))
        return dataclasses.replace(result, classes=classes, semantic=semantic)

    return segment


def class_by_size(reference: ConfigDict, class_names: Sequence[str]) -> list[str]:
    """Returns a warning if the reference gives small instances a class that may have large ones.

    Args:
      reference: the section `reference` of a config.
      class_names: classes of the data, background first.
    """
    fraction, index = (
        reference.get("small_fraction", 0.0),
        reference.get("small_class", Watershed.small_class),
    )
    if not fraction or not 1 < index < len(class_names) or class_names[index] == SMALL:
        return []
    return [
        f"The reference gives instances below {fraction:g} of the typical area the class"
        f" {class_names[index]}. If this is no class of small instances, set"
        " --config.reference.small_fraction=0."
    ]


def common_classes(
    class_names: Sequence[str], predictions: Sequence[PredictionFolder], *, has_classless: bool = False
) -> tuple[str, ...]:
    """Returns the classes in which predictions can be compared with a truth: its own, or one class.

    If the truth has one class, or a prediction has none, all instances are of one class.

    Args:
      class_names: classes of the truth, background first.
      predictions: the predictions.
      has_classless: whether a method without classes is compared as well.

    Raises:
      InputError: if a prediction has a class that the truth does not have.
    """
    names = tuple(class_names)
    if len(names) > 2 and (has_classless or any(one.class_names == NO_CLASSES for one in predictions)):
        names = NO_CLASSES
    for one in predictions:
        unknown = [name for name in one.class_names[1:] if name not in names]
        if unknown and len(names) > 2:
            raise InputError(
                f"{one.path} has the class {unknown[0]!r}, but the truth has {', '.join(names[1:])}: give"
                " them the same names"
            )
        one.use_classes(names)
    return names
