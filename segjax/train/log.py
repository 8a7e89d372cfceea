"""Log of a training run: JSON lines and TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter


class Log:
    """Writes `log.jsonl` and TensorBoard event files to a folder.

    Entries after step `start` are deleted: a run that resumes from a checkpoint repeats these steps and would
    log them twice.
    """

    def __init__(self, folder: Path, *, start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log.jsonl"
        previous = [line for line in read_log(self._path) if line["step"] <= start]
        tmp_path = self._path.with_suffix(".tmp")
        tmp_path.write_text("".join(json.dumps(line) + "\n" for line in previous))
        os.replace(tmp_path, self._path)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes the values of a step; keys of nested dictionaries are joined to `outer/inner`."""
        flat = {name: value for name, value in _flatten(values) if value is not None}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step} | flat) + "\n")
        for name, value in flat.items():
            if np.isfinite(value):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes the TensorBoard writer."""
        self._board.close()


class NoLog:
    """Discards all values: the log of every process except the first."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the entries of a `log.jsonl`, up to the first line that is incomplete."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def _flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat = []
    for name, value in values.items():
        if isinstance(value, dict):
            flat += _flatten(value, f"{prefix}{name}/")
        elif value is None or isinstance(value, str):
            continue
        else:
            flat.append((prefix + name, float(value)))
    return flat
