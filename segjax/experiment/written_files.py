"""Remembers which files predictions wrote, so that they replace no file of a user."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segjax.errors import InputError
from segjax.experiment.finished_images import FOLDER
from segjax.files import file_digest
from segjax.inference.exports.marks import check_replaceable, takes_mark

# The folder of the digests, and the file in it which says that an earlier version, without digests, wrote
# some of the results.
WRITTEN, OLDER = "written", "older"
# Number of characters of a digest.
LENGTH = 64


class WrittenFiles:
    """The files that predictions wrote to a folder of results: a hidden file has the digest of each.

    A file without a digest counts as written if it has a mark, see `has_mark`. Tables have no mark: without a
    digest, they count as written in the folders of versions that noted none.

    Args:
      out: the folder of results.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._folder = out, out / FOLDER / WRITTEN

    def open(self) -> None:
        """Creates the folder of the digests, before the first file is written.

        Raises:
          OSError: if it cannot be created.
        """
        is_older = self._is_older
        self._folder.mkdir(parents=True, exist_ok=True)
        if is_older:
            (self._folder / OLDER).touch()

    def check(self, path: Path) -> None:
        """Refuses to replace a file that no prediction wrote, or that was changed since.

        Args:
          path: a file, or the folder of an OME-Zarr, in the folder of results. It need not exist.

        Raises:
          InputError: if it must not be replaced.
          OSError: if it cannot be read.
        """
        if not path.exists() or self._is_known(path):
            return
        noted = self._noted(path)
        if noted is not None and len(noted) == LENGTH:
            # Another prediction may have replaced it meanwhile.
            if not self._is_known(path):
                raise InputError(
                    f"{path} exists, and was changed since segjax predict wrote it: move it, or give another"
                    " --out"
                )
        elif takes_mark(path):
            check_replaceable(path)
        elif noted is None and not self._is_older:
            raise InputError(
                f"{path} exists, and was not written by segjax predict, or the hidden folder {FOLDER} that"
                " says so is missing: move it, or give another --out"
            )

    @contextmanager
    def replacing(self, path: Path) -> Iterator[None]:
        """Notes the digest of a file, or of a folder, that the block writes or removes.

        Raises:
          InputError: as `check`.
          OSError: if it cannot be noted.
        """
        self.check(path)
        note, before = self._note(path), self._noted(path)
        note.parent.mkdir(parents=True, exist_ok=True)
        # If the process is killed in the block, the file is the old one or the new one.
        note.write_text("")
        try:
            yield
        except BaseException:
            with suppress(OSError):
                if before == _digest(path):
                    note.write_text(before)
            raise
        try:
            while True:
                state = path.stat()
                note.write_text(_digest(path))
                # Another prediction may have replaced it meanwhile.
                if _is_same(state, path.stat()):
                    return
        except FileNotFoundError:  # it was removed, here or by another prediction
            note.unlink(missing_ok=True)

    @property
    def _is_older(self) -> bool:
        """Whether a version that noted no digests wrote some of the results."""
        return (self._folder / OLDER).exists() or (self._folder.parent.exists() and not self._folder.exists())

    def _is_known(self, path: Path) -> bool:
        """Returns whether a file is as a prediction noted it, for this folder or one above or below it."""
        path = path.absolute()
        notes = [WrittenFiles(folder)._noted(path) for folder in path.parents]
        if not any(notes):
            return False
        try:
            return _digest(path) in notes
        except FileNotFoundError:
            return not path.exists()

    def _noted(self, path: Path) -> str | None:
        """Returns the digest of a file; "" if a process was killed while it wrote it, None without one."""
        try:
            return self._note(path).read_text()
        except OSError:
            return None

    def _note(self, path: Path) -> Path:
        name = path.absolute().relative_to(self._out.absolute()).as_posix()
        return self._folder / hashlib.sha256(os.fsencode(name)).hexdigest()


def _is_same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_ino, one.st_size, one.st_mtime_ns) == (other.st_ino, other.st_size, other.st_mtime_ns)


def _digest(path: Path) -> str:
    """Returns the sha256 of a file, or of all files in a folder and their names, without hidden ones."""
    if not path.is_dir():
        return file_digest(path)
    parts = sorted(part for part in path.rglob("*") if not part.name.startswith("."))
    texts = [f"{part.relative_to(path)} {'' if part.is_dir() else file_digest(part)}" for part in parts]
    return hashlib.sha256(os.fsencode("\n".join(texts))).hexdigest()
