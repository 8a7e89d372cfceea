"""Writes staged examples as a TFDS data set, in this process or with Apache Beam."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from segjax.data.records import Record
from segjax.datasets.folder import NAME
from segjax.datasets.folder.image_files import ImageFile
from segjax.datasets.folder.staging import Staging
from segjax.datasets.store.builder import CellBuilder
from segjax.errors import InputError


class Folder(CellBuilder):
    """A data set from a user's folder.

    Args:
      staging: the encoded examples.
      splits: the images of each split.
      class_names: background first.
      about: additional metadata.
      pipeline: whether Apache Beam writes the examples.
      **options: keyword arguments of every TFDS builder.
    """

    VERSION: ClassVar[Any] = tfds.core.Version("1.0.0")
    CLASS_NAMES = ()
    DESCRIPTION = "Images and masks of a folder, prepared by segjax."
    HOMEPAGE = CITATION = LICENSE = ""

    def __init__(
        self,
        *,
        staging: Staging,
        splits: Mapping[str, Sequence[ImageFile]],
        class_names: Sequence[str],
        about: Mapping[str, Any],
        pipeline: bool = False,
        **options: Any,
    ) -> None:
        self._staging, self._splits, self._pipeline = staging, splits, pipeline
        self._class_names, self._about = tuple(class_names), dict(about)
        super().__init__(**options)
        for split, items in splits.items():
            self.membership.update({item.name: split for item in items})

    def _info(self) -> tfds.core.DatasetInfo:
        info = super()._info()
        info.metadata.update({"class_names": list(self._class_names), **self._about})
        return info

    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Not used: the examples are encoded already."""
        raise InputError(f"a folder is prepared by segjax prepare, not from {downloads}")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        if not self._pipeline:
            return {split: self._examples(items) for split, items in self._splits.items()}
        import apache_beam as beam

        read = partial(_example, self._staging)
        return {
            split: beam.Create(list(items)) | beam.Reshuffle() | beam.Map(read)
            for split, items in self._splits.items()
        }

    def _examples(self, items: Sequence[ImageFile]) -> Iterator[tuple[str, Any]]:
        for item in items:
            yield _example(self._staging, item)


def _example(staging: Staging, item: ImageFile) -> tuple[str, Any]:
    return item.name, staging.example(item)


def dataset_dir(out: str | Path) -> Path:
    """Returns the folder of the data set inside the `--out` of `segjax prepare`."""
    return Path(out) / NAME / str(Folder.VERSION)
