"""Random access to the records of one split of a data set on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from segjax.data.records import Record
from segjax.datasets.folder.builder import dataset_dir
from segjax.datasets.store.builder import CellBuilder, prepare, repair_of
from segjax.datasets.store.codec import as_text, decode, shape_of
from segjax.errors import InputError
from segjax.files import read_json_object

# Keys of features.json whose value is a Python class, and how the names of the classes in TFDS begin.
CLASS_KEYS = {"type", "pythonClassName", "python_class_name"}
FEATURES = "tensorflow_datasets.core.features."


class PreparedSource:
    """A split of a data set on disk.

    Args:
      builder_class: builder of the data set, which is prepared on first use.
      split: `train`, or in TFDS's notation a part or a union: `train[:50%]`, `train[10:20]+validation`. Parts
        follow the order on disk, which TFDS shuffles, so they may split a group.
      data_dir: folder of data sets; None for TFDS's default.

    Attributes:
      class_names: names of the classes 0 (background), 1, ...
      sizes: number of images in each split of the data set.
      parts: the ranges of records that are read, each `(split, start, stop)`.
      split_sha256: digest of the assignment of records to splits, None if the data were prepared by an older
        version.
      leaks: leaks between the splits, one sentence each; empty for official splits.
      files: the files of the splits that `parts` belong to.

    Raises:
      InputError: if the split is unknown or empty, or the data cannot be obtained or are damaged.
    """

    def __init__(
        self, builder_class: type[CellBuilder], split: str, *, data_dir: str | Path | None = None
    ) -> None:
        self._open(prepare(builder_class, data_dir), split)

    def _open(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        self._folder = Path(builder.data_dir)
        try:
            infos, metadata = builder.info.splits, builder.info.metadata
            sizes = {name: info.num_examples for name, info in infos.items()}
            self.class_names = tuple(metadata["class_names"])
            self.split_sha256 = metadata.get("split_sha256")
            self.leaks = tuple(metadata.get("leaks", ()))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"metadata.json: {error}") from error
        if not sizes:
            raise self._damaged("it describes no split")
        self.sizes = sizes
        self.parts = tuple(split_slices(builder.name, split, sizes))
        names = dict.fromkeys(name for name, _, _ in self.parts)
        self.files = tuple(Path(path) for name in names for path in infos[name].filepaths)
        self._examples = builder.as_data_source(split)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        position = range(len(self))[index]
        name = f"record {position}"
        try:
            example = self._examples[position]
            name = as_text(example["name"])
            return decode(example)
        except Exception as error:
            raise self._damaged(f"{name}: {error}") from error

    def groups(self) -> list[str]:
        """Returns the group of each record without decoding pixels."""
        return self._texts("group")

    def names(self) -> list[str]:
        """Returns the name of each record without decoding pixels."""
        return self._texts("name")

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Returns name and shape [H, W, C] of each image without decoding pixels."""
        try:
            examples = (self._examples[index] for index in range(len(self)))
            return [(as_text(example["name"]), shape_of(example["image"])) for example in examples]
        except Exception as error:
            raise self._damaged(str(error)) from error

    def _texts(self, field: str) -> list[str]:
        try:
            texts = [self._examples[index][field] for index in range(len(self))]
        except Exception as error:
            raise self._damaged(str(error)) from error
        return [as_text(text) for text in texts]

    def _damaged(self, reason: str) -> InputError:
        return InputError(
            f"the prepared data in {self._folder} are damaged ({reason}); {repair_of(self._folder)}"
        )


class FolderSource(PreparedSource):
    """A split of a folder that `segjax prepare` prepared.

    Args:
      split: as in `PreparedSource`.
      data_dir: the `--out` of `segjax prepare`.

    Raises:
      InputError: if nothing is prepared there, or as in `PreparedSource`.
    """

    def __init__(self, split: str, *, data_dir: str | Path | None = None) -> None:
        if data_dir is None:
            raise InputError(
                "config.dataset.data_dir is not set: set it to the --out folder of segjax prepare"
            )
        path = dataset_dir(data_dir)
        if not path.is_dir():
            raise InputError(
                f"config.dataset.data_dir={data_dir} holds no prepared folder ({path} is missing):"
                f" create it with segjax prepare --images=... --masks=... --out={data_dir}"
            )
        try:
            for name in ("dataset_info.json", "metadata.json"):
                read_json_object(path / name)
            _check_features(path / "features.json")
            builder = tfds.builder_from_directory(path)
        except Exception as error:
            self._folder = path
            raise self._damaged(str(error)) from error
        self._open(builder, split)


def _check_features(path: Path) -> None:
    """Checks that a `features.json` names only the features of TFDS, which imports the modules that it names.

    Raises:
      ValueError: if it names another module, or is damaged.
      OSError: if it cannot be read.
    """
    parts: list[Any] = [read_json_object(path)]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            for key in CLASS_KEYS & part.keys():
                if not str(part[key]).startswith(FEATURES):
                    raise ValueError(f"{path.name} names {part[key]}, which is no feature of TFDS")
            parts += part.values()
        elif isinstance(part, list):
            parts += part


def split_slices(dataset: str, split: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Resolves a split in TFDS's notation.

    Args:
      dataset: name of the data set, for the error.
      split: such as `train[:50%]+validation`.
      sizes: number of images in each split.

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
        raise InputError(f"split {split!r} is invalid; {known}") from error
    if not all(0 <= start < stop <= sizes[name] for name, start, stop in slices):
        raise InputError(f"split {split!r} holds no image; {known}")
    return slices
