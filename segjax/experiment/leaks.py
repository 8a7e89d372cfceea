"""Checks before training that the splits do not leak, and the digest of the split."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from segjax.data.records import Source
from segjax.datasets.sources import PreparedSource
from segjax.errors import InputError
from segjax.experiment.setup import SPLITS, open_split
from segjax.files import file_digest

# Maximum number of leaks that an error names.
NAMED = 3


def check_leaks(config: ConfigDict) -> None:
    """Refuses splits that leak.

    Official splits are accepted as published. Parts of one split, such as `train[:80%]` and `train[80%:]`,
    must not have a group in common.

    Args:
      config: the config of a run. `config.dataset.allow_leaks` turns the error into a warning.

    Raises:
      InputError: if the splits leak; the message names the leaks.
    """
    sources = {split: open_split(config, split) for split in SPLITS}
    leaks: list[str] = []
    for source in sources.values():
        leaks += [leak for leak in getattr(source, "leaks", ()) if leak not in leaks]
    for (one, first), (other, second) in itertools.combinations(sources.items(), 2):
        for first_part, second_part in itertools.product(_prepared(first), _prepared(second)):
            leaks += _common_groups(one, first_part, other, second_part)
    if not leaks:
        return
    named = "; ".join(leaks[:NAMED]) + (f"; and {len(leaks) - NAMED} more" if len(leaks) > NAMED else "")
    if config.dataset.get("allow_leaks", False):
        logging.warning("the splits of %s leak: %s", config.dataset.name, named)
        return
    raise InputError(
        f"the splits of {config.dataset.name} leak ({named}): split again with segjax prepare, or set"
        " --config.dataset.allow_leaks to train on them anyway"
    )


def split_facts(source: Source) -> dict[str, Any]:
    """Returns the digest of the split for checkpoints and reports; empty for synthetic data."""
    digest = getattr(source, "split_sha256", None)
    return {} if digest is None else {"split_sha256": digest}


def data_digests(splits: Mapping[str, Source]) -> dict[str, str]:
    """Returns the digests of the data of splits, which the result of a training depends on.

    Args:
      splits: source of each split, by name; "train" is one of them.

    Returns:
      The digest of the split, and of the files of each split, thus of all images and annotations. Nothing for
      synthetic data.

    Raises:
      OSError: if a file cannot be read.
    """
    digests: dict[str, str] = split_facts(splits["train"])
    with ThreadPoolExecutor() as pool:
        for name, source in splits.items():
            files = [path for part in _prepared(source) for path in part.files]
            if files:
                content = "".join(pool.map(file_digest, files))
                digests[f"{name}_files_sha256"] = hashlib.sha256(content.encode()).hexdigest()
    return digests


def _prepared(source: Source) -> list[PreparedSource]:
    """Returns the prepared data sets that a source consists of."""
    if isinstance(source, PreparedSource):
        return [source]
    return [part for inner in getattr(source, "sources", ()) for part in _prepared(inner)]


def _common_groups(one: str, first: PreparedSource, other: str, second: PreparedSource) -> list[str]:
    same = {name for name, _, _ in first.parts} & {name for name, _, _ in second.parts}
    if not same:
        return []
    shared = sorted(set(first.groups()) & set(second.groups()))
    if not shared:
        return []
    return [f"{one} and {other} both have images of {', '.join(shared[:NAMED])}"]
