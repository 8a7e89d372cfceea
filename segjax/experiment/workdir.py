"""The folder of a run: its config, metadata of its network, checkpoints, logs and report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from segjax.errors import InputError
from segjax.files import write_json


class ModelMetadata(NamedTuple):
    """The properties of a network that prediction needs; stored next to the checkpoints.

    Attributes:
      class_names: K names, background first.
      channels: number of channels of the images.
    """

    class_names: tuple[str, ...]
    channels: int


def bind_config(workdir: Path, config: ConfigDict) -> None:
    """Writes the config of a run into its folder, or checks that the stored config is equal.

    Raises:
      InputError: if the folder belongs to a run of another config.
    """
    # Through JSON, which turns tuples into lists, so that equal configs compare equal.
    new = json.loads(config.to_json())
    path = workdir / "config.json"
    if not path.exists():
        write_json(path, new)
        return
    old_fields, new_fields = dict(_flatten(_read(path))), dict(_flatten(new))
    different = sorted(
        name for name in old_fields | new_fields if old_fields.get(name) != new_fields.get(name)
    )
    if different:
        first = different[0]
        raise InputError(
            f"{workdir} belongs to a run of another config ({', '.join(different[:3])} differ:"
            f" config.{first} was {old_fields.get(first)!r}, is {new_fields.get(first)!r}): choose another"
            " --workdir, or give the config that the run was started with"
        )


def read_config(workdir: Path) -> ConfigDict:
    """Reads the config that a run was started with.

    Raises:
      InputError: if the folder contains no run.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"--workdir={workdir} contains no run: there is no {path}; segjax train makes one")
    return ConfigDict(lists_to_tuples(_read(path)))


def write_metadata(workdir: Path, metadata: ModelMetadata) -> None:
    """Writes the metadata of a network."""
    write_json(workdir / "model.json", metadata._asdict())


def read_metadata(workdir: Path) -> ModelMetadata:
    """Reads the metadata of a network.

    Raises:
      InputError: if the run ended before it wrote them.
    """
    path = workdir / "model.json"
    if not path.exists():
        raise InputError(f"there is no {path}: the run ended before its first step; run segjax train again")
    content = _read(path)
    return ModelMetadata(tuple(content["class_names"]), content["channels"])


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is damaged ({error}): restore it from a copy, or start again in another folder"
        ) from error


def lists_to_tuples(value: Any) -> Any:
    """Undoes what JSON does to a config, which contains no lists."""
    if isinstance(value, dict):
        return {name: lists_to_tuples(item) for name, item in value.items()}
    return tuple(lists_to_tuples(item) for item in value) if isinstance(value, list) else value


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flatten(item, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, value
