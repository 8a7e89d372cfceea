"""Results of the images processed so far, from which an interrupted preparation resumes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.datasets.folder.image_files import ImageFile
from segjax.files import atomic_write, remove_temporary

# Names of the files of an entry.
ENTRY = re.compile(r"[0-9a-f]{40}\.(json|npz)")


class Staging:
    """A cache of encoded examples and check results, by image.

    An entry is two files. Its name is a hash of the image file's size and modification time, its metadata and
    the settings, so that a changed image is processed again. The JSON file is written last: an entry that has
    it is complete, whenever the process was stopped.

    Args:
      folder: folder of the files, created with the first entry.
      settings: everything else the result depends on; entries with other settings are not used.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self._settings = settings

    def find(self, item: ImageFile) -> dict[str, Any] | None:
        """Returns the check results of an image, None if it was not checked yet."""
        path = self._path(item, ".json")
        return json.loads(path.read_text()) if path.exists() else None

    def example(self, item: ImageFile) -> dict[str, Any]:
        """Returns the encoded example of an image."""
        with np.load(self._path(item, ".npz"), allow_pickle=False) as stored:
            example: dict[str, Any] = {name: stored[name] for name in stored.files}
        return {
            name: value.tobytes() if value.dtype == np.uint8 else value for name, value in example.items()
        }

    def put(self, item: ImageFile, about: Mapping[str, Any], example: Mapping[str, Any] | None) -> None:
        """Stores the check results of an image, and its example if it has one."""
        if example is not None:
            arrays: dict[str, Any] = {name: _as_array(value) for name, value in example.items()}
            with atomic_write(self._path(item, ".npz")) as tmp_path:
                np.savez(tmp_path, **arrays)
        with atomic_write(self._path(item, ".json")) as tmp_path:
            tmp_path.write_text(json.dumps(about))

    def clear(self) -> None:
        """Removes all entries, those of other settings included, and no other file."""
        if self.folder.is_dir():
            remove_temporary(self.folder)
            for path in self.folder.iterdir():
                if ENTRY.fullmatch(path.name):
                    path.unlink()

    def _path(self, item: ImageFile, suffix: str) -> Path:
        try:
            file = item.path.stat()
            state = (file.st_size, file.st_mtime_ns)
        except OSError:  # deleted or a broken link: the reader reports it
            state = (0, 0)
        content = repr((item, state, self._settings))
        return self.folder / f"{hashlib.sha256(content.encode()).hexdigest()[:40]}{suffix}"


def _as_array(value: Any) -> np.ndarray:
    """Converts bytes and text to uint8, a type that no other field has."""
    if isinstance(value, str):
        value = value.encode()
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.asarray(value)
