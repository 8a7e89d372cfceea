"""The files and the folders of runs that a config names: their content decides the result of a point."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from pathlib import Path

from ml_collections import ConfigDict

from segjax.errors import InputError
from segjax.experiment.workdir import read_config
from segjax.files import file_digest
from segjax.models.weights.network import names
from segjax.train.checkpoint_files import CheckpointReader

# Fields that name a file or the folder of a run.
FIELDS = ("model.weights", "proposals.workdir", "classifier.file")


def named_files(config: ConfigDict) -> dict[str, Path]:
    """Returns the files and folders that a config names, by field; networks in the package are no files."""
    paths = {}
    for field in FIELDS:
        section, _, name = field.partition(".")
        value = config.get(section, {}).get(name)
        if value and not (field == "model.weights" and value in names()):
            paths[field] = Path(value).expanduser()
    return paths


def check_files(config: ConfigDict) -> None:
    """Checks that the files and folders of runs that a config names are there.

    Raises:
      InputError: if one is missing, or a folder has no run.
    """
    for field, path in named_files(config).items():
        if path.is_dir():
            read_config(path)
        elif not path.is_file():
            raise InputError(f"config.{field}={path} is missing: give a path that exists")


def content_digests(config: ConfigDict, known: MutableMapping[Path, str]) -> dict[str, str]:
    """Returns the digest of each file, and of the network of each run, that a config names.

    Args:
      config: the config.
      known: the digests of earlier configs, by path; those of this config are added.

    Returns:
      The digests, by field; none for a path that is neither a file nor the folder of a run.

    Raises:
      InputError: if the config of a run is damaged.
      OSError: if a file cannot be read.
    """
    digests = {}
    for field, path in named_files(config).items():
        if path not in known:
            known[path] = _digest(path)
        if known[path]:
            digests[field] = known[path]
    return digests


def _digest(path: Path) -> str:
    if path.is_file():
        return file_digest(path)
    if not (path / "config.json").exists():
        return ""
    config = read_config(path)
    is_latest = config.get("predict", {}).get("checkpoint") == "latest"
    network = CheckpointReader(path / "checkpoints").digest(latest=is_latest)
    return hashlib.sha256(f"{network} {config.to_json(sort_keys=True)}".encode()).hexdigest()
