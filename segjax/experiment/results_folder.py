"""The folder of results of a command: checked before the work begins, with a list of failed images."""

from __future__ import annotations

import errno
import itertools
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from absl import logging
from filelock import FileLock, Timeout

from segjax.data.readers import unreadable
from segjax.errors import InputError
from segjax.experiment.finished_images import FOLDER
from segjax.experiment.written_files import WrittenFiles
from segjax.files import explain_refusal, is_refusal, printable, remove_temporary
from segjax.inference.exports.marks import FRAMES
from segjax.inference.tables import write_table

FAILED = "failed.csv"
LOCK = "prediction.lock"
# Number of failed images that a message names.
NAMED = 10


def open_results(out: Path) -> None:
    """Creates a folder of results, and checks that files can be written to it.

    Raises:
      InputError: if it cannot be created, or no file can be written to it.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()


@contextmanager
def without_temporary(out: Path, folders: Iterable[Path]) -> Iterator[None]:
    """Removes the temporary files that killed processes left, unless another prediction writes to `out` now.

    Args:
      out: the folder of results.
      folders: `out` and its subfolders to which the results are written; they need not exist.
    """
    own: FileLock | None = None
    with suppress(OSError):  # disks without locks
        WrittenFiles(out).open()
        with FileLock(out / FOLDER / LOCK):  # while files are removed, no other prediction begins
            own, is_alone = _lock_one(out / FOLDER)
            written = set(folders)
            for folder in {out / FOLDER, *written, *(folder / FRAMES for folder in written)}:
                if is_alone and folder.is_dir():
                    remove_temporary(folder)
    try:
        yield
    finally:
        if own is not None:
            own.release()


def _lock_one(folder: Path) -> tuple[FileLock, bool]:
    """Takes one of the numbered locks of running predictions; also returns whether all others are free."""
    own, is_alone = None, True
    for number in itertools.count():
        path = folder / f"{number}_{LOCK}"
        if own is not None and not path.exists():
            return own, is_alone
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            is_alone = False
            continue
        if own is None:
            own = lock
        else:
            lock.release()
    raise AssertionError


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Converts the errors of files that cannot be written to one sentence.

    Raises:
      InputError: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        raise refused(error, out) from error


def refused(error: OSError, out: Path) -> InputError:
    """Returns one sentence for results that cannot be written."""
    if is_refusal(error):
        return InputError(printable(f"--out={out} cannot be written: {explain_refusal(error)}"))
    return InputError(printable(f"--out={out} cannot be written ({error}): choose another folder"))


def explain_failure(error: Exception, what: str, out: Path) -> str:
    """Returns why an input failed, in one sentence; the traceback of the first unexpected error is logged.

    Args:
      error: the error.
      what: begins the sentence of an unexpected error, such as "a.png could not be segmented".
      out: the folder of results.

    Raises:
      InputError: if no result can be written to `out`.
    """
    if isinstance(error, InputError):
        reason = str(error)
    elif not isinstance(error, OSError):
        logging.log_first_n(logging.ERROR, "%s", 1, "".join(traceback.format_exception(error)))
        reason = f"{what} ({type(error).__name__}: {error})"
    elif error.errno == errno.ENAMETOOLONG:
        reason = f"{what}, because the names of its results are too long: shorten its name"
    elif error.filename is None or Path(error.filename).is_relative_to(out):
        raise refused(error, out) from error
    else:
        reason = str(unreadable(error.filename, error))
    return printable(reason)


def write_failed(folder: Path, reasons: Mapping[str, str]) -> None:
    """Writes `failed.csv`, the reason of each image that failed; removes it if there is none.

    Args:
      folder: the folder of results.
      reasons: by the name of the image.

    Raises:
      OSError: if the file cannot be written.
    """
    if not reasons:
        (folder / FAILED).unlink(missing_ok=True)
        return
    columns = {"image": [*reasons], "reason": [*reasons.values()]}
    table = {name: np.array([printable(value) for value in values]) for name, values in columns.items()}
    write_table([table], folder / FAILED)


def join_first(reasons: Mapping[str, str]) -> str:
    """Returns the first reasons, and the number of the others.

    >>> join_first({f"{number}.png": f"{number}.png is empty" for number in range(12)})[-42:]
    '8.png is empty; 9.png is empty; and 2 more'
    """
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return "; ".join([*reasons.values()][:NAMED]) + more
