"""Base class of the data sets on disk, and their preparation by one process at a time, without TensorFlow."""

from __future__ import annotations

import abc
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from filelock import FileLock

from segjax.data.records import Record
from segjax.datasets import splits
from segjax.datasets.store.codec import encode, features
from segjax.datasets.store.shuffling import shuffled_in_a_file
from segjax.errors import InputError
from segjax.files import REMEDIES, printable

# Names of the files of a prepared data set.
WRITTEN = re.compile(r"LICENSE|(dataset_info|features|metadata)\.json|.*\.labels\.txt|.*\.array_record.*")


class CellBuilder(tfds.core.GeneratorBasedBuilder):
    """A TFDS builder of `Record`s. A subclass defines the metadata and `records`.

    Attributes:
      CLASS_NAMES: names of class 0 (background), 1, ...; stored in the metadata of the data set.
    """

    # TFDS looks for checksums of URLs there. There are none, and its search needs the package
    # importlib_resources, which TFDS 4.9.10 does not install.
    code_path = None

    VERSION: ClassVar[Any]
    CLASS_NAMES: ClassVar[tuple[str, ...]]
    DESCRIPTION: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]
    LICENSE: ClassVar[str]

    @property
    def membership(self) -> dict[str, str]:
        """The split of each record written so far, by name."""
        return self.__dict__.setdefault("_membership", {})

    @abc.abstractmethod
    def records(self, downloads: Path) -> dict[str, Callable[[], Iterator[Record]]]:
        """Obtains the source of the data.

        Args:
          downloads: folder for downloads. Files that a user downloads by hand are in its subfolder `manual`.

        Returns:
          For each split a function that yields its records.

        Raises:
          InputError: if the source cannot be obtained; the message names the file and where to put it.
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
        readers = self.records(downloads_of(self))
        return {split: self._generate_examples(split, records) for split, records in readers.items()}

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
    """Returns the folder of downloads, next to the prepared data."""
    return Path(builder.data_dir_root) / "downloads"


def prepare(
    builder_class: Callable[..., CellBuilder],
    data_dir: str | Path | None = None,
    *,
    config: tfds.download.DownloadConfig | None = None,
    **options: Any,
) -> CellBuilder:
    """Prepares a data set unless it is prepared already.

    TFDS writes into a temporary folder and renames it at the end, so a data set that exists is complete.
    A lock lets one process prepare while others wait. The system releases it when the process dies; the next
    process removes the incomplete files.

    Args:
      builder_class: builder of the data set.
      data_dir: folder of data sets; None for TFDS's default, `~/tensorflow_datasets`.
      config: download configuration of TFDS, such as options of Apache Beam.
      **options: keyword arguments of the builder.

    Returns:
      The prepared builder.

    Raises:
      InputError: if the data cannot be obtained or are damaged, or the folder cannot be written to.
    """
    if data_dir is not None:
        check_location(Path(data_dir))
    builder = _make(builder_class, data_dir, options)
    if Path(builder.data_dir).exists():
        # Another process may have finished after this builder looked for the data.
        return builder if builder.info.splits else _make(builder_class, data_dir, options)
    try:
        downloads_of(builder).mkdir(parents=True, exist_ok=True)
        with FileLock(downloads_of(builder) / f"{builder.name}.lock"):
            # Another process may have prepared the data set meanwhile.
            builder = _make(builder_class, data_dir, options)
            if not Path(builder.data_dir).exists():
                for abandoned in Path(builder.data_dir).parent.glob("incomplete.*"):
                    shutil.rmtree(abandoned)
                # TFDS prints messages; the standard output belongs to the script.
                with redirect_stdout(sys.stderr):
                    builder.download_and_prepare(download_config=config)
    except (OSError, RuntimeError) as error:
        reason = str(error) if isinstance(error, OSError) else _refusal(error)
        if reason is None:
            raise
        raise InputError(
            f"data set {builder.name} cannot be prepared in {builder.data_dir_root} ({reason}): choose a"
            " folder that you may write to, on a disk with enough space"
        ) from error
    return builder


def _refusal(error: RuntimeError) -> str | None:
    """Returns why the system refuses to write, None if it does not: ArrayRecord only repeats its words."""
    return next((word for word in map(os.strerror, REMEDIES) if word in str(error)), None)


def check_location(data_dir: Path) -> None:
    """Checks the name of a folder of data sets.

    Raises:
      InputError: if ArrayRecord cannot open files there.
    """
    if printable(path := data_dir.absolute()) != str(path):
        raise InputError(
            f"{printable(path)} has a name that is not UTF-8, and cannot hold a data set: choose another"
            " folder"
        )


def repair_of(folder: Path) -> str:
    """Returns what to do about damaged data; a folder that holds other files is not to be deleted."""
    others = sorted(path for path in folder.rglob("*") if path.is_file() and not WRITTEN.fullmatch(path.name))
    if others:
        other = others[0].relative_to(folder)
        return (
            f"the folder also holds {other}, which does not belong to the data set: choose another data_dir"
        )
    return "delete that folder and run again to prepare the data set"


def _make(
    builder_class: Callable[..., CellBuilder], data_dir: str | Path | None, options: Mapping[str, Any]
) -> CellBuilder:
    # The default format, tfrecord, cannot be written without TensorFlow.
    folder = None if data_dir is None else str(data_dir)
    try:
        return builder_class(data_dir=folder, file_format="array_record", **options)
    except (InputError, OSError):
        raise
    except Exception as error:  # TFDS reads what is prepared, and raises many types
        # Only the version is TFDS's own: the user may have other files in the folders above.
        above = Path(folder or tfds.core.constants.DATA_DIR) / getattr(builder_class, "name", "")
        path = above / str(getattr(builder_class, "VERSION", ""))
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"the prepared data in {path} are damaged (dataset_info.json: {reason}); {repair_of(path)}"
        ) from error
