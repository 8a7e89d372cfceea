"""Shuffles the examples of TFDS in a file instead of in memory.

TFDS shuffles up to a gigabyte in memory, and larger splits on disk with functions of TensorFlow, so without
TensorFlow it cannot write them. It also writes the fields of an example in an order that differs between
processes; here equal data give equal bytes.
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
    """Replaces `tfds.core.shuffle.Shuffler`: the same order of examples, in one file.

    Args:
      dirpath: folder of the temporary file.
      hash_salt: salt of the hashes of the keys, by which examples are sorted.
      disable_shuffling: whether to sort by the keys themselves.
      ignore_duplicates: whether to skip examples with a known key instead of raising an error.
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
        self._spans: dict[int, tuple[int, int]] = {}
        self.size = 0

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return len(self._spans)

    @property
    def bucket_lengths(self) -> Sequence[int]:
        """All examples are in one bucket."""
        return [len(self._spans)]

    def add(self, key: Any, data: bytes) -> None:
        """Adds an example, a serialized `tf.train.Example`.

        Raises:
          DuplicatedKeysError: if the key is known already.
        """
        position = key if self._disable_shuffling else self._hasher.hash_key(key)
        if position in self._spans:
            if self._ignore_duplicates:
                return
            raise shuffle.DuplicatedKeysError(data, self._read(position))
        data = tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True)
        self._spans[position] = (self.size, len(data))
        self._file.seek(self.size)
        self._file.write(data)
        self.size += len(data)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for position in sorted(self._spans):
            yield position, self._read(position)

    def _read(self, position: int) -> bytes:
        start, length = self._spans[position]
        self._file.seek(start)
        return self._file.read(length)


@contextmanager
def shuffled_in_a_file() -> Iterator[None]:
    """Makes TFDS use `FileShuffler` inside the context."""
    before = shuffle.Shuffler
    shuffle.Shuffler = FileShuffler
    try:
        yield
    finally:
        shuffle.Shuffler = before
