"""Files that are written completely or not at all."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields the path of a temporary file in the same folder; at the end, the file replaces `path`.

    Parent folders are created. If the block raises, the temporary file is removed and `path` stays as it was.
    The temporary file has the suffix of `path`, because some writers choose the format by it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new" / "note.txt"
    >>> with atomic_write(path) as tmp_path:
    ...     _ = tmp_path.write_text("done")
    >>> path.read_text(), [file.name for file in path.parent.iterdir()]
    ('done', ['note.txt'])
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes and threads may write the same file.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    tmp_path = path.with_name(f".{path.stem}.{writer}{path.suffix}")
    try:
        yield tmp_path
        os.replace(tmp_path, path)
    finally:
        tmp_path.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Writes indented JSON by `atomic_write`."""
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(json.dumps(content, indent=2) + "\n")
