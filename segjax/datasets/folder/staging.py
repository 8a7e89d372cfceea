"""What has been made of the images of a folder so far, so that a stopped preparation goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.datasets.folder.image_files import ImageFile


class Staging:
    """Encoded examples and what was found out about them, by item.

    An entry is a pair of files. It belongs to an item as it was: its file's size and time of change and all
    that was said of it are in the entry's name, so that an image that changes is looked at again. The second
    file is written last and whole: an entry that has it is complete, whenever the process was stopped.

    Args:
      folder: of the files; made when the first is written.
      settings: whatever else decides what becomes of an item; entries made with others are not found.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self._settings = settings

    def find(self, item: ImageFile) -> dict[str, Any] | None:
        """What was found out about an item, None if it was not looked at yet."""
        path = self._path(item, ".json")
        return json.loads(path.read_text()) if path.exists() else None

    def example(self, item: ImageFile) -> dict[str, Any]:
        """The encoded example of an item that has one."""
        with np.load(self._path(item, ".npz"), allow_pickle=False) as stored:
            example: dict[str, Any] = {name: stored[name] for name in stored.files}
        return {
            name: value.tobytes() if value.dtype == np.uint8 else value for name, value in example.items()
        }

    def put(self, item: ImageFile, about: Mapping[str, Any], example: Mapping[str, Any] | None) -> None:
        """Keeps what was found out about an item, and its example if there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if example is not None:
            path = self._path(item, ".npz")
            draft = path.with_suffix(f".{os.getpid()}.tmp")
            with draft.open("wb") as file:
                arrays: dict[str, Any] = {name: _as_array(value) for name, value in example.items()}
                np.savez(file, **arrays)
            os.replace(draft, path)
        path = self._path(item, ".json")
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(about))
        os.replace(draft, path)

    def _path(self, item: ImageFile, suffix: str) -> Path:
        try:
            file = item.path.stat()
            state = (file.st_size, file.st_mtime_ns)
        except OSError:  # gone meanwhile, or a link to nowhere: whoever reads it will say so
            state = (0, 0)
        content = repr((item, state, self._settings))
        return self.folder / f"{hashlib.sha256(content.encode()).hexdigest()[:40]}{suffix}"


def _as_array(value: Any) -> np.ndarray:
    """Bytes and text as uint8, which no other field of an example is."""
    if isinstance(value, str):
        value = value.encode()
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.asarray(value)
