"""The order in which TFDS writes examples, without holding them in memory.

TFDS keeps up to a gigabyte in memory, and beyond that shuffles on disk with functions of TensorFlow's:
without TensorFlow it cannot write a larger split at all. It also writes the fields of an example in an order
that differs from process to process; here the same data give the same bytes.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorflow_datasets.core import hashing, shuffle
from tensorflow_datasets.proto import tf_example_pb2


class FileShuffler:
    """Takes the place of `tfds.core.shuffle.Shuffler`: the same order of examples, all in one file.

    Args:
      dirpath: folder of the file, which has no name and is gone when the process ends.
      hash_salt: of the keys' hashes, by which examples are sorted.
      disable_shuffling: whether they are sorted by the keys themselves.
      ignore_duplicates: whether of examples with one key the first is kept; otherwise it is an error.
    """

    def __init__(
        self,
        dirpath: Any,
        hash_salt: str | bytes,
        disable_shuffling: bool = False,
        ignore_duplicates: bool = False,
    ) -> None:
        self._file = tempfile.TemporaryFile(dir=Path(dirpath))  # noqa: SIM115 - closed by the finalizer
        weakref.finalize(self, self._file.close)
        self._hasher = hashing.Hasher(hash_salt)
        self._disable_shuffling, self._ignore_duplicates = disable_shuffling, ignore_duplicates
        self._places: dict[int, tuple[int, int]] = {}
        self.size = 0

    @property
    def num_examples(self) -> int:
        """How many there are."""
        return len(self._places)

    @property
    def bucket_lengths(self) -> Sequence[int]:
        """As if all were in one bucket."""
        return [len(self._places)]

    def add(self, key: Any, data: bytes) -> None:
        """Keeps an example, a serialized `tf.train.Example`.

        Raises:
          DuplicatedKeysError: if there is one with this key.
        """
        place = key if self._disable_shuffling else self._hasher.hash_key(key)
        if place in self._places:
            if self._ignore_duplicates:
                return
            raise shuffle.DuplicatedKeysError(data, self._read(place))
        data = tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True)
        self._places[place] = (self.size, len(data))
        self._file.seek(self.size)
        self._file.write(data)
        self.size += len(data)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for place in sorted(self._places):
            yield place, self._read(place)

    def _read(self, place: int) -> bytes:
        start, length = self._places[place]
        self._file.seek(start)
        return self._file.read(length)


@contextmanager
def shuffled_in_a_file() -> Iterator[None]:
    """Within it, TFDS shuffles by `FileShuffler`."""
    before = shuffle.Shuffler
    shuffle.Shuffler = FileShuffler
    try:
        yield
    finally:
        shuffle.Shuffler = before
