"""Data sets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from segjax.data.records import Source
from segjax.datasets.public.bbbc038 import Bbbc038
from segjax.datasets.public.bbbc039 import Bbbc039
from segjax.datasets.public.bccd import Bccd
from segjax.datasets.public.dsb2018 import Dsb2018
from segjax.datasets.public.livecell import Livecell
from segjax.datasets.public.mnfinder import Mnfinder
from segjax.datasets.public.monuseg import Monuseg
from segjax.datasets.public.nuinsseg import Nuinsseg
from segjax.datasets.public.pannuke import Pannuke
from segjax.datasets.public.tnbc import Tnbc
from segjax.datasets.sources import FolderSource, PreparedSource
from segjax.datasets.synthetic import SyntheticSource
from segjax.errors import InputError

DATASETS: dict[str, Callable[..., Source]] = {
    "bbbc038": partial(PreparedSource, Bbbc038),
    "bbbc039": partial(PreparedSource, Bbbc039),
    "bccd": partial(PreparedSource, Bccd),
    "dsb2018": partial(PreparedSource, Dsb2018),
    "livecell": partial(PreparedSource, Livecell),
    "folder": FolderSource,
    "mnfinder": partial(PreparedSource, Mnfinder),
    "monuseg": partial(PreparedSource, Monuseg),
    "nuinsseg": partial(PreparedSource, Nuinsseg),
    "pannuke": partial(PreparedSource, Pannuke),
    "tnbc": partial(PreparedSource, Tnbc),
    "synthetic": SyntheticSource,
}


def open_source(name: str, split: str, *, data_dir: str | Path | None = None, **options: Any) -> Source:
    """Opens one split of a data set, preparing the data set on first use.

    Args:
      name: one of `DATASETS`.
      split: `train`, `validation` or `test`, a part such as `train[:50%]`, or a union such as
        `train+validation`.
      data_dir: where data sets on disk are kept; None for TFDS's default, `~/tensorflow_datasets`.
      **options: of the data set, as in the signature of its entry in `DATASETS`.

    Returns:
      Random access to its records, and the names of its classes.

    Raises:
      InputError: if there is no such data set, split or option, or the data cannot be had.
    """
    if name not in DATASETS:
        raise InputError(f"there is no data set {name!r}; there are {', '.join(DATASETS)}")
    known = set(inspect.signature(DATASETS[name]).parameters) - {"split", "data_dir"}
    if unknown := sorted(set(options) - known):
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise InputError(f"data set {name} has no option {unknown[0]!r}; {has}")
    if "data_dir" in inspect.signature(DATASETS[name]).parameters:
        options["data_dir"] = data_dir
    return DATASETS[name](split, **options)
