"""Several data sets as one, with the classes that a network is to learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from segjax.data.channels import COLOUR
from segjax.data.records import Record, Source
from segjax.data.shapes import shapes_of
from segjax.errors import InputError
from segjax.segmentation import Segmentation


class MixedSource:
    """The records of several sources, one source after the other.

    Grey images become colour images with three equal channels if another source has three channels, or
    `channels` is 3. The records of two sources may have the same name.

    Args:
      sources: at least one.
      class_names: names of the classes of the mixture, the background first. Instances of other classes
        become background. None or empty for the classes of the sources, which then must be the same.
      channels: 3 if grey images always become colour images.

    Attributes:
      class_names: names of class 0 (background), 1, ...
      sources: the sources.

    Raises:
      InputError: if no source has a class, a class is named twice, the first is not the background, the
        sources have different classes and `class_names` is None, or `channels` is not 3.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        class_names: Sequence[str] | None = None,
        *,
        channels: int | None = None,
    ) -> None:
        if channels not in (None, COLOUR):
            raise InputError(f"channels={channels} must be 3, or left out", field="channels")
        names = tuple(class_names or sources[0].class_names)
        known = list(dict.fromkeys(name for source in sources for name in source.class_names))
        if missing := [name for name in names if name not in known]:
            raise InputError(
                f"classes names {missing[0]}, but the data have {', '.join(known)}", field="classes"
            )
        background = sources[0].class_names[0]
        if names[0] != background or len(set(names)) < len(names):
            raise InputError(
                f"classes is {', '.join(names)}: name {background} first, and each class once",
                field="classes",
            )
        if not class_names and any(tuple(source.class_names) != names for source in sources):
            raise InputError(
                "the data sets have different classes: name those to learn, the background first",
                field="classes",
            )
        self.class_names = names
        self.sources = tuple(sources)
        self._starts = np.cumsum([0, *(len(source) for source in sources)])
        present = [source[0].image.shape[-1] for source in sources if len(source)]
        self._is_colour = channels == COLOUR or COLOUR in present
        self.leaks = tuple(leak for source in sources for leak in getattr(source, "leaks", ()))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Record:
        position = range(len(self))[index]
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        source = self.sources[part]
        record = source[position - int(self._starts[part])]
        truth = record.truth
        if tuple(source.class_names) != self.class_names:
            truth = select_classes(truth, source.class_names, self.class_names)
        image = record.image
        if image.shape[-1] == 1 and self._is_colour:
            image = np.repeat(image, COLOUR, axis=-1)
        return dataclasses.replace(record, image=image, truth=truth)

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Returns name and shape of each image that is known without decoding, as read from the mixture."""
        return [
            (name, (height, width, COLOUR if channels == 1 and self._is_colour else channels))
            for source in self.sources
            for name, (height, width, channels) in shapes_of(source)
        ]

    def names(self) -> list[str]:
        """Returns the name of each record."""
        return [name for source in self.sources for name in names_of(source)]


def names_of(source: Source) -> list[str]:
    """Returns the name of each record; only prepared data tell it without decoding the images."""
    if hasattr(source, "names"):
        names: list[str] = source.names()
        return names
    return [source[index].name for index in range(len(source))]


def annotated_classes(source: Source) -> tuple[str, ...]:
    """Returns the classes of the data behind a source, from which it may select some.

    Those of the data set with most classes, if there are several.
    """
    inner = map(annotated_classes, getattr(source, "sources", ()))
    return max(inner, key=len, default=tuple(source.class_names))


def select_classes(truth: Segmentation, old: Sequence[str], new: Sequence[str]) -> Segmentation:
    """Returns a segmentation with the classes `new`; instances of other classes become background.

    Args:
      truth: a segmentation with the classes `old`.
      old: names of the classes, the background first.
      new: names of the new classes, the background first.
    """
    number = np.array([new.index(name) if name in new else 0 for name in old], np.int32)
    classes = number[truth.classes]
    labels = np.concatenate([[0], np.where(classes > 0, np.arange(1, len(classes) + 1), 0)])[truth.labels]
    semantic = np.where(truth.semantic < 0, truth.semantic, number[truth.semantic]).astype(np.int32)
    return Segmentation.from_labels(
        labels.astype(np.int32),
        classes=classes[classes > 0],
        scores=truth.scores[classes > 0],
        semantic=semantic,
    )
