"""Random access to the records of one split of a data set on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data.builder import CellBuilder, prepare
from segjax.data.records import Record, decode
from segjax.errors import InputError


class PreparedSource:
    """A split of a data set on disk.

    Args:
      builder_class: of the data set, prepared on first use.
      split: `train`, or in TFDS's notation a part or a union: `train[:50%]`, `train[10:20]+validation`. Parts
        follow the order on disk, which TFDS shuffles, so they may tear a group apart.
      data_dir: where TFDS keeps data sets; None for its default.

    Attributes:
      class_names: of class 0 (background), 1, ...

    Raises:
      InputError: if the split is unknown or empty, or the data cannot be had or are damaged.
    """

    def __init__(
        self, builder_class: type[CellBuilder], split: str, *, data_dir: str | Path | None = None
    ) -> None:
        builder = prepare(builder_class, data_dir)
        self._home = builder.data_dir
        sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
        if not sizes:
            raise self._damaged("it describes no split")
        split_slices(builder.name, split, sizes)
        self.class_names = tuple(builder.info.metadata["class_names"])
        self._examples = builder.as_data_source(split)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        position = range(len(self))[index]
        try:
            return decode(self._examples[position])
        except Exception as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, reason: str) -> InputError:
        return InputError(
            f"the prepared data in {self._home} are damaged ({reason}); delete that folder and run again to"
            " prepare them anew"
        )


def split_slices(dataset: str, split: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Resolves a split in TFDS's notation.

    Args:
      dataset: its name, for the error.
      split: such as `train[:50%]+validation`.
      sizes: of each split.

    Returns:
      `(split, start, stop)` for each part.

    Raises:
      InputError: if the split is unknown, malformed or empty; it names the known ones.
    """
    images = ", ".join(f"{name} ({size} images)" for name, size in sizes.items())
    known = f"{dataset} has {images}, and parts of them such as {next(iter(sizes))}[:50%]"
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0, filename_template=None)
        for name, size in sizes.items()
    }
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
        slices = [
            (part.splitname, part.from_ or 0, sizes[part.splitname] if part.to is None else part.to)
            for part in parts
        ]
    except Exception as error:
        raise InputError(f"split {split!r} cannot be understood; {known}") from error
    if not all(0 <= start < stop <= sizes[name] for name, start, stop in slices):
        raise InputError(f"split {split!r} holds no image; {known}")
    return slices
