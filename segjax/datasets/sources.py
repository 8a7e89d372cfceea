"""Random access to the records of one split of a data set on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from segjax.data.records import Record, decode
from segjax.datasets.folder.builder import dataset_dir
from segjax.datasets.store.builder import CellBuilder, prepare
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
      sizes: of all splits there are, in images.
      parts: `(split, start, stop)` of what is read.
      split_sha256: a digest of which record and group lie in which split, None where the data were prepared
        before there was one.
      leaks: of the whole data set, one sentence for each; those of official splits are not among them.

    Raises:
      InputError: if the split is unknown or empty, or the data cannot be had or are damaged.
    """

    def __init__(
        self, builder_class: type[CellBuilder], split: str, *, data_dir: str | Path | None = None
    ) -> None:
        self._open(prepare(builder_class, data_dir), split)

    def _open(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        self._home = builder.data_dir
        sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
        if not sizes:
            raise self._damaged("it describes no split")
        self.sizes = sizes
        self.parts = tuple(split_slices(builder.name, split, sizes))
        metadata = builder.info.metadata
        self.class_names = tuple(metadata["class_names"])
        self.split_sha256 = metadata.get("split_sha256")
        self.leaks = tuple(metadata.get("leaks", ()))
        self._examples = builder.as_data_source(split)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        position = range(len(self))[index]
        try:
            return decode(self._examples[position])
        except Exception as error:
            raise self._damaged(str(error)) from error

    def groups(self) -> list[str]:
        """The group of each record, without decoding its pixels."""
        try:
            groups = [self._examples[index]["group"] for index in range(len(self))]
        except Exception as error:
            raise self._damaged(str(error)) from error
        return [group.decode() if isinstance(group, bytes) else group for group in groups]

    def _damaged(self, reason: str) -> InputError:
        return InputError(
            f"the prepared data in {self._home} are damaged ({reason}); delete that folder and run again to"
            " prepare them anew"
        )


class FolderSource(PreparedSource):
    """A split of what `scripts/prepare.py` has made of a user's folder.

    Args:
      split: as in `PreparedSource`.
      data_dir: the folder that was given to `scripts/prepare.py` as `--out`.

    Raises:
      InputError: if nothing is prepared there, or as in `PreparedSource`.
    """

    def __init__(self, split: str, *, data_dir: str | Path | None = None) -> None:
        if data_dir is None:
            raise InputError(
                "config.dataset.data_dir is not set: give the folder that scripts/prepare.py made by --out"
            )
        path = dataset_dir(data_dir)
        if not path.is_dir():
            raise InputError(
                f"config.dataset.data_dir={data_dir} holds no prepared folder ({path} is missing):"
                f" scripts/prepare.py --images=... --masks=... --out={data_dir} makes it"
            )
        try:
            builder = tfds.builder_from_directory(path)
        except Exception as error:
            self._home = path
            raise self._damaged(str(error)) from error
        self._open(builder, split)


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
