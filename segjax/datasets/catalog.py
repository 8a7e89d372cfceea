"""Data sets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from segjax.data.records import Source
from segjax.datasets.sources import FolderSource, PreparedSource
from segjax.datasets.store.builder import CellBuilder
from segjax.datasets.synthetic import SyntheticSource
from segjax.errors import InputError

PUBLIC = (
    "bbbc038",
    "bbbc039",
    "bccd",
    "dsb2018",
    "livecell",
    "mnfinder",
    "monuseg",
    "nuinsseg",
    "pannuke",
    "tnbc",
)


def public_builder(name: str) -> type[CellBuilder]:
    """Imports the builder of a public data set: class `Tnbc` of `segjax.datasets.public.tnbc` for "tnbc"."""
    return getattr(import_module(f"segjax.datasets.public.{name}"), name.capitalize())


def open_public(name: str, split: str, *, data_dir: str | Path | None = None) -> Source:
    """Opens one split of a public data set, see `PreparedSource`."""
    return PreparedSource(public_builder(name), split, data_dir=data_dir)


DATASETS: dict[str, Callable[..., Source]] = {
    **{name: partial(open_public, name) for name in PUBLIC},
    "folder": FolderSource,
    "synthetic": SyntheticSource,
}


def open_source(name: str, split: str, *, data_dir: str | Path | None = None, **options: Any) -> Source:
    """Opens one split of a data set, and prepares the data set on first use.

    Args:
      name: one of `DATASETS`.
      split: `train`, `validation` or `test`, a part such as `train[:50%]`, or a union such as
        `train+validation`.
      data_dir: folder of data sets on disk, with `~` for the home folder; None for TFDS's default,
        `~/tensorflow_datasets`.
      **options: keyword arguments of the entry in `DATASETS`.

    Returns:
      Random access to its records, and the names of its classes.

    Raises:
      InputError: if there is no such data set, split or option, or the data cannot be obtained.
    """
    if name not in DATASETS:
        raise InputError(f"there is no data set {name!r}; there are {', '.join(DATASETS)}")
    parameters = set(inspect.signature(DATASETS[name]).parameters) - {"split"}
    known = parameters - {"data_dir"}
    if unknown := sorted(set(options) - known):
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise InputError(f"data set {name} has no option {unknown[0]!r}; {has}")
    if "data_dir" in parameters:
        options["data_dir"] = None if data_dir is None else Path(data_dir).expanduser()
    return DATASETS[name](split, **options)
