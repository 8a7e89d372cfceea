"""What a run writes down: a line of JSON for each logged step, and the same for TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter


class Log:
    """`log.jsonl` and TensorBoard event files in a folder; what lies after `start` is forgotten.

    A run that goes on from a checkpoint repeats the steps after it, so their lines would be there twice.
    """

    def __init__(self, folder: Path, *, start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log.jsonl"
        kept = [line for line in read_log(self._path) if line["step"] <= start]
        replaced = self._path.with_suffix(".tmp")
        replaced.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(replaced, self._path)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes the values of a step, nested dictionaries flattened to `outer/inner`."""
        flat = {name: value for name, value in _flatten(values) if value is not None}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step} | flat) + "\n")
        for name, value in flat.items():
            if np.isfinite(value):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes out what TensorBoard still holds back."""
        self._board.close()


class NoLog:
    """The log of every process but the first."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes nothing."""

    def close(self) -> None:
        """Has nothing to close."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a `log.jsonl`; a last one that was cut off while being written is left out."""
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
