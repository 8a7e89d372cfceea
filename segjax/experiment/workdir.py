"""The folder of a run: its config, metadata of its network, checkpoints, logs and report."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from ml_collections import ConfigDict

from segjax.errors import InputError, first_line
from segjax.files import read_json_object, write_json
from segjax.settings import Count, broken_rule

# Fields that have no effect on any result: neither on what a network learns nor on what it predicts.
WITHOUT_EFFECT = ("data.cache_bytes", "data.workers", "ensemble", "train.log_every")
# Fields that change how a network is trained or used, not what it learns. Those of `train` have an effect on
# runs that diverge: these go back to a checkpoint, or fail.
FREE = (
    *WITHOUT_EFFECT,
    "dataset.data_dir",
    "dataset.test",
    "train.checkpoint_every",
    "train.max_consecutive_skips",
    "train.rollback",
)
# Start of the name of the folder of a seed in the folder of an ensemble; the seed follows.
SEED = "seed_"
FREE_SECTIONS = ("mesh.", "predict.", "reference.")


class ModelMetadata(NamedTuple):
    """The properties of a network that prediction needs; stored next to the checkpoints.

    Attributes:
      class_names: K names, background first.
      channels: number of channels of the images.
    """

    class_names: tuple[str, ...]
    channels: int


@contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Lets one training at a time use a folder, which is created; the lock dies with its process.

    Raises:
      InputError: if another training uses the folder; the message says which.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(workdir / "training.lock", timeout=0), workdir / "training.json"
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another training uses {workdir}{_owner(owner)}: wait for its end, stop it, or choose another"
            " --workdir"
        ) from error
    with lock:
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_json(owner, {"process": os.getpid(), "host": platform.node(), "since": now})
        try:
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()


def _owner(path: Path) -> str:
    try:
        content = read_json_object(path)
        return f" (process {content['process']} on {content['host']}, since {content['since']})"
    except (OSError, ValueError, KeyError):  # the sentence is true without it
        return ""


def check_config(workdir: Path, config: ConfigDict, *, accept_changes: bool = False) -> None:
    """Checks that the stored config of a run, if there is one, gives the same result as a config.

    Fields of `FREE`, and a larger number of steps, may differ.

    Args:
      workdir: the folder of the run.
      config: the config.
      accept_changes: whether all fields may differ.

    Raises:
      InputError: if the folder belongs to a run of another config.
    """
    path = workdir / "config.json"
    if not path.exists() or accept_changes:
        return
    old, new = dict(_flatten(_read(path))), flat_config(config)

    def is_free(name: str) -> bool:
        more_steps = name == "steps" and isinstance(old.get(name), int) and new[name] > old[name]
        return more_steps or name in FREE or name.startswith(FREE_SECTIONS)

    different = [name for name in sorted(old | new) if old.get(name) != new.get(name) and not is_free(name)]
    if different:
        first = different[0]
        raise InputError(
            f"{workdir} belongs to a run of another config ({', '.join(different[:3])} differ:"
            f" config.{first} was {old.get(first)!r}, is {new.get(first)!r}): choose another --workdir, give"
            " the config that the run was started with, or go on with this one by --accept_changes"
        )


def write_config(workdir: Path, config: ConfigDict) -> None:
    """Writes the config of a run."""
    write_json(workdir / "config.json", json.loads(config.to_json()))


def flat_config(config: ConfigDict) -> dict[str, Any]:
    """Returns the value of each field of a config by its path, such as "data.scale".

    Through JSON, which turns tuples into lists, so that equal configs compare equal.
    """
    return dict(_flatten(json.loads(config.to_json())))


def read_config(workdir: Path) -> ConfigDict:
    """Reads the config that a run was started with.

    Raises:
      InputError: if the folder contains no run.
    """
    path = workdir / "config.json"
    if not path.exists():
        if seeds := seed_folders(workdir):
            raise InputError(
                f"--workdir={workdir} contains the {len(seeds)} runs of an ensemble: give one of them, such"
                f" as --workdir={seeds[0]}"
            )
        raise InputError(f"--workdir={workdir} contains no run: there is no {path}; segjax train makes one")
    return make_config(_read(path), path)


def make_config(content: Any, path: Path) -> ConfigDict:
    """Makes a config from what was read from a file.

    Raises:
      InputError: if a name in it cannot be that of a field.
    """
    try:
        return ConfigDict(lists_to_tuples(content))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}): restore it from a copy") from error


def seed_folders(workdir: Path) -> list[Path]:
    """Returns the folders of the seeds in that of an ensemble, in order; none in any other folder."""
    if (workdir / "config.json").exists():
        return []
    seeds = [path.parent.name.removeprefix(SEED) for path in workdir.glob(f"{SEED}*/config.json")]
    return [workdir / f"{SEED}{seed}" for seed in sorted(filter(str.isdecimal, seeds), key=int)]


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
    return make_metadata(_read(path), path)


def make_metadata(content: Any, path: Path) -> ModelMetadata:
    """Makes the metadata of a network from what was read from a file.

    Raises:
      InputError: if they are damaged.
    """
    for name, kind in (("class_names", tuple[str, ...]), ("channels", Count)):
        value = content.get(name) if isinstance(content, dict) else None
        if rule := broken_rule(value, kind):
            raise InputError(f"{path} is damaged ({name} must be {rule}): restore it from a copy")
    names = tuple(content["class_names"])
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(
            f"{path} is damaged (class_names must be the background and other classes): restore it from a"
            " copy"
        )
    return ModelMetadata(names, content["channels"])


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except (OSError, ValueError) as error:
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
