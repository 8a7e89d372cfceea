"""The folder of a run: its config, what its network was trained for, checkpoints, logs, report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from segjax.errors import InputError
from segjax.files import write_json


class ModelMetadata(NamedTuple):
    """What a network was trained for, kept beside its checkpoints so that predicting needs no data set.

    Attributes:
      class_names: K names, background first.
      channels: of the images.
    """

    class_names: tuple[str, ...]
    channels: int


def bind_config(workdir: Path, config: ConfigDict) -> None:
    """Makes a folder this config's, or checks that it is.

    Raises:
      InputError: if the folder belongs to a run of another config.
    """
    # Through JSON, where tuples become lists: what is read back must compare equal.
    ours = json.loads(config.to_json())
    path = workdir / "config.json"
    if path.exists():
        theirs = _read(path)
        different = sorted(
            name
            for name in {*dict(_flatten(ours)), *dict(_flatten(theirs))}
            if dict(_flatten(ours)).get(name) != dict(_flatten(theirs)).get(name)
        )
        if different:
            old, new = (dict(_flatten(side)).get(different[0]) for side in (theirs, ours))
            raise InputError(
                f"{workdir} belongs to a run of another config ({', '.join(different[:3])} differ:"
                f" config.{different[0]} was {old!r}, is {new!r}): choose another --workdir, or give the"
                " config it was begun with"
            )
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(path, ours)


def read_config(workdir: Path) -> ConfigDict:
    """The config a folder was trained with.

    Raises:
      InputError: if the folder holds no run.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"--workdir={workdir} holds no run: there is no {path}; scripts/train.py makes one")
    return ConfigDict(_as_given(_read(path)))


def write_metadata(workdir: Path, description: ModelMetadata) -> None:
    """Writes what the network of a run was trained for."""
    write_json(workdir / "model.json", description._asdict())


def read_metadata(workdir: Path) -> ModelMetadata:
    """What the network of a run was trained for.

    Raises:
      InputError: if the run never got as far as to write it.
    """
    path = workdir / "model.json"
    if not path.exists():
        raise InputError(f"there is no {path}: the run never began; scripts/train.py goes on with it")
    found = _read(path)
    return ModelMetadata(tuple(found["class_names"]), found["channels"])


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged ({error}): restore it from a copy, or begin anew") from error


def _as_given(value: Any) -> Any:
    """JSON knows no tuples; configs hold no lists."""
    if isinstance(value, dict):
        return {name: _as_given(item) for name, item in value.items()}
    return tuple(_as_given(item) for item in value) if isinstance(value, list) else value


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flatten(item, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, value
