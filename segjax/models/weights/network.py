"""A trained network as one safetensors file: parameters in float16, and a header with all that it needs.

The package holds some of these files, see `names`; `segjax export` writes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from segjax.errors import InputError
from segjax.files import atomic_write
from segjax.models.weights.file import flatten, unflatten, write_tensors
from segjax.typing import Params

SUFFIX = ".safetensors"
# Version of the header; files of another version are refused.
FORMAT = 1
FOLDER = Path(__file__).parents[2] / "pretrained"


def names() -> list[str]:
    """Returns the names of the networks in the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def find(source: str | Path) -> Path | None:
    """Returns the file of a network: of one in the package by its name, or `source` itself; else None."""
    if str(source) in names():
        return FOLDER / f"{source}{SUFFIX}"
    path = Path(source)
    if path.suffix != SUFFIX or not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            return path if "segjax" in (file.metadata() or {}) else None
    except (OSError, SafetensorError):
        return None


def save_network(path: Path, params: Params, header: Mapping[str, Any]) -> str:
    """Writes a network; returns the digest of its parameters.

    Args:
      path: file to write.
      params: tree of parameters; stored as float16.
      header: what `load_network` returns beside them, for JSON.

    Raises:
      InputError: if the file cannot be written, or a parameter does not fit into float16.
    """
    with np.errstate(over="ignore"):  # refused below, with the name
        flat = {name: np.ascontiguousarray(value, np.float16) for name, value in flatten(params).items()}
    if broken := [name for name, value in flat.items() if not np.isfinite(value).all()]:
        raise InputError(
            f"{broken[0]} has values that do not fit in float16: use the folder of the run itself, or"
            " train with a lower learning rate"
        )
    content = {**header, "format": FORMAT, "digest": _digest(flat)}
    try:
        with atomic_write(path) as tmp_path:
            write_tensors(flat, tmp_path, {"segjax": json.dumps(content, sort_keys=True)})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be written ({error}): choose another file") from error
    return str(content["digest"])


def load_network(path: Path) -> tuple[Params, dict[str, Any]]:
    """Reads a file that `save_network` wrote.

    Returns:
      The tree of parameters, float32, and the header with "digest".

    Raises:
      InputError: if the file is damaged, of another version, or was not written by `save_network`.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["segjax"])
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        version, digest = header.pop("format"), header["digest"]
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({error}): copy or export it again"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} holds no network: segjax export writes one from the folder of a run"
        ) from error
    if version != FORMAT:
        raise InputError(
            f"{path} has version {version} of the format, but this segjax reads version {FORMAT}: export the"
            " network again, or install the version of segjax that wrote it"
        )
    if _digest(flat) != digest:
        raise InputError(
            f"{path} is damaged: the digest of its parameters is not the {digest} of its header; copy or"
            " export it again"
        )
    return unflatten({name: value.astype(np.float32) for name, value in flat.items()}), header


def _digest(flat: Mapping[str, np.ndarray]) -> str:
    """Returns the sha256 of names, types, shapes and values."""
    total = hashlib.sha256()
    for name, value in sorted(flat.items()):
        total.update(f"{name} {value.dtype} {value.shape} ".encode() + value.tobytes())
    return total.hexdigest()
