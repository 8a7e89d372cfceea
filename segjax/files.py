"""Files that are written completely or not at all, and sentences for what the system refuses."""

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What to do if the system refuses to read or write a file.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, then run the same command again"),
    errno.EFBIG: "raise the limit for the size of a file (ulimit -f), or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions, or choose another folder"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "a file has the name of a folder: choose another folder"),
    errno.EISDIR: "a folder has the name of a file: choose another folder",
    errno.ENAMETOOLONG: "shorten the name",
}


# Names of temporary files.
TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\.\w+)?")
# First characters of files and folders that no user made; macOS leaves __MACOSX next to the files it copies.
HIDDEN = (".", "__MACOSX")
# Folders that are one image, with a file for each chunk.
CHUNKED = (".zarr", ".n5")
# First characters of a cell from which spreadsheets compute.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields the path of a temporary file in the same folder; at the end, the file replaces `path`.

    Parent folders are created. If the block raises, the temporary file is removed and `path` stays as it was.
    The temporary file has the suffix of `path`, because some writers choose the format by it.

    Raises:
      OSError: if the file cannot be written; its `filename` is `path`, or the folder that cannot be made.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new" / "note.txt"
    >>> with atomic_write(path) as tmp_path:
    ...     _ = tmp_path.write_text("done")
    >>> path.read_text(), [file.name for file in path.parent.iterdir()]
    ('done', ['note.txt'])
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unique, because several processes, threads and machines may write the same file; short, because the name
    # of the file may have the largest length.
    tmp_path = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield tmp_path
        os.replace(tmp_path, path)
    except OSError as error:
        # The system names the temporary file, or, on a full disk, none.
        if error.filename is None or os.fspath(error.filename) == str(tmp_path):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        tmp_path.unlink(missing_ok=True)


def walk(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Yields the folders and files below a folder, without those that are `HIDDEN`.

    Links are followed, except to folders that contain them. `CHUNKED` folders are not entered.

    Args:
      folder: the folder.
      onerror: called with the error of each folder that cannot be read; by default such a folder is empty.
    """
    # The folders that contain a folder, and itself, after links are resolved.
    real = Path(os.path.realpath(folder))
    above = {os.fspath(folder): frozenset(map(str, [real, *real.parents]))}
    for parent, folders, files in os.walk(folder, onerror=onerror, followlinks=True):
        outer, entered = above.pop(parent), []
        for name in sorted(name for name in folders if not name.startswith(HIDDEN)):
            path = os.path.join(parent, name)
            yield Path(path)
            target = os.path.realpath(path)
            if target not in outer and not name.lower().endswith(CHUNKED):
                above[path] = outer | {target}
                entered.append(name)
        folders[:] = entered
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith(HIDDEN))


def remove_temporary(folder: Path) -> None:
    """Removes the temporary files and folders of unfinished writes that killed processes left in a folder.

    No other process may write to the folder at the same time.
    """
    for path in folder.iterdir():
        if not TEMPORARY.fullmatch(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes text as UTF-8 by `atomic_write`; see `printable` for characters that UTF-8 does not have."""
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(printable(text), encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Writes indented JSON by `atomic_write`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      ValueError: if the file holds no JSON object.
      OSError: if it cannot be read.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    return content


def file_digest(path: Path) -> str:
    """Returns the sha256 of a file.

    Raises:
      OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: Path) -> str:
    """Returns the sha256 of a file; for a folder the names, sizes and times of its files, as a text.

    Raises:
      OSError: if it cannot be read.
    """
    if not path.is_dir():
        return file_digest(path)
    stats = [(file.relative_to(path).as_posix(), file.stat()) for file in sorted(path.rglob("*"))]
    return str([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats if not name.endswith(".lock")])


def is_refusal(error: OSError) -> bool:
    """Returns whether the system refuses a file for a reason that the user can change, as in `REMEDIES`."""
    return error.errno in REMEDIES


def explain_refusal(error: OSError) -> str:
    """Returns one sentence with the file, the reason and the remedy, for an error with `is_refusal`.

    >>> explain_refusal(OSError(errno.ENOSPC, "No space left on device", "out/a.tif"))
    'out/a.tif cannot be used (No space left on device): free some space, then run the same command again'
    """
    where = "a file" if error.filename is None else os.fspath(error.filename)
    return f"{where} cannot be used ({error.strerror}): {REMEDIES.get(error.errno or 0, 'check the path')}"


def spreadsheet_text(text: str) -> str:
    """Returns a text as a cell that spreadsheets do not take for a formula: an apostrophe comes first.

    Texts that are numbers stay as they are.

    >>> [spreadsheet_text(text) for text in ("=1+2", "-a.png", "-1.5", "a=b")]
    ["'=1+2", "'-a.png", '-1.5', 'a=b']
    """
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def printable(text: str | os.PathLike[str]) -> str:
    """Returns a text or path as valid Unicode: bytes of a name that are not UTF-8 become escapes."""
    return os.fspath(text).encode("utf-8", "backslashreplace").decode()
