"""What all data sets on disk share: one layout of records, prepared once, safely, without TensorFlow."""

from __future__ import annotations

import abc
import fcntl
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from segjax.data.records import Record, encode, features
from segjax.datasets import splits
from segjax.datasets.store.shuffling import shuffled_in_a_file
from segjax.errors import InputError


class CellBuilder(tfds.core.GeneratorBasedBuilder):
    """A TFDS builder of `Record`s; a subclass says what they are and where they come from.

    Attributes:
      CLASS_NAMES: of class 0 (background), 1, ...; stored in the data set's metadata.
    """

    # Where TFDS would look for checksums of URLs, of which there are none; its search for the path fails
    # without the package importlib_resources, which TFDS 4.9.10 does not install.
    code_path = None

    VERSION: ClassVar[Any]
    CLASS_NAMES: ClassVar[tuple[str, ...]]
    DESCRIPTION: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]
    LICENSE: ClassVar[str]

    @property
    def membership(self) -> dict[str, str]:
        """The split of each record that was written, by its name."""
        return self.__dict__.setdefault("_membership", {})

    @abc.abstractmethod
    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Makes ready what the records are read from.

        Args:
          downloads: folder that may keep downloads. What a user puts by hand lies in its subfolder `manual`.

        Returns:
          For each split what yields its records.

        Raises:
          InputError: if the source of the data cannot be had; the message says what to put where.
        """

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=features(),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            license=self.LICENSE,
            metadata=tfds.core.MetadataDict(class_names=list(self.CLASS_NAMES)),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # segjax has its own
        made = self.records(downloads_of(self))
        return {split: self._generate_examples(split, records) for split, records in made.items()}

    def _generate_examples(
        self, split: str, records: Callable[[], Iterator[Record]]
    ) -> Iterator[tuple[str, Any]]:
        for record in records():
            self.membership[record.name] = split
            yield record.name, encode(record)

    def _download_and_prepare(self, *args: Any, **options: Any) -> None:
        with shuffled_in_a_file():
            super()._download_and_prepare(*args, **options)
        # TFDS writes the metadata next.
        self.info.metadata["split_sha256"] = splits.digest(self.membership)


def downloads_of(builder: CellBuilder) -> Path:
    """The folder next to the prepared data that keeps downloads."""
    return Path(builder.data_dir_root) / "downloads"


def prepare(
    builder_class: Callable[..., CellBuilder],
    data_dir: str | Path | None = None,
    *,
    config: tfds.download.DownloadConfig | None = None,
    **options: Any,
) -> CellBuilder:
    """Prepares a data set unless it is prepared already.

    TFDS writes into a temporary folder and renames it at the end, so what exists is whole. A lock lets one
    process do it while others wait; the system frees it when its holder dies, and what a dead holder left
    behind is removed.

    Args:
      builder_class: of the data set.
      data_dir: where TFDS keeps data sets; None for its default, `~/tensorflow_datasets`.
      config: how TFDS does it, such as Apache Beam's options.
      **options: of the builder.

    Returns:
      The builder, ready to be read from.

    Raises:
      InputError: if the data cannot be had, or the folder not be written to.
    """
    builder = _make(builder_class, data_dir, options)
    if Path(builder.data_dir).exists():
        return builder
    try:
        with _only_one(downloads_of(builder) / f"{builder.name}.lock"):
            builder = _make(
                builder_class, data_dir, options
            )  # another process may have prepared it meanwhile
            if not Path(builder.data_dir).exists():
                for abandoned in Path(builder.data_dir).parent.glob("incomplete.*"):
                    shutil.rmtree(abandoned)
                for abandoned in downloads_of(builder).glob(".pip-*"):
                    shutil.rmtree(abandoned)
                # What a script prints is for whoever asked it, not for what TFDS has to say.
                with redirect_stdout(sys.stderr):
                    builder.download_and_prepare(download_config=config)
    except OSError as error:
        raise InputError(
            f"data set {builder.name} cannot be prepared in {builder.data_dir_root} ({error});"
            " give a folder with room that you may write to as data_dir"
        ) from error
    return builder


def _make(
    builder_class: Callable[..., CellBuilder], data_dir: str | Path | None, options: Mapping[str, Any]
) -> CellBuilder:
    # The default format, tfrecord, cannot be written without TensorFlow.
    where = None if data_dir is None else str(data_dir)
    return builder_class(data_dir=where, file_format="array_record", **options)


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
