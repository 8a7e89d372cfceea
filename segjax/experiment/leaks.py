"""What training must know of its data's split: that nothing leaks from part to part, and its digest."""

from __future__ import annotations

import itertools
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from segjax.data.records import Source
from segjax.datasets.sources import PreparedSource
from segjax.errors import InputError
from segjax.experiment.build import SPLITS, open_split

# More are counted, not named.
NAMED = 3


def check_leaks(config: ConfigDict) -> None:
    """Refuses data of which one split says too much about another.

    A split that a data set was published with is taken as it is, but two parts of one split that the config
    cuts, as `train[:80%]` and `train[80%:]`, must not share a group either.

    Args:
      config: of a run. `config.dataset.allow_leaks` turns the error into a warning.

    Raises:
      InputError: naming what leaks.
    """
    sources = {split: open_split(config, split) for split in SPLITS}
    found: list[str] = []
    for source in sources.values():
        found += [leak for leak in getattr(source, "leaks", ()) if leak not in found]
    for (one, first), (other, second) in itertools.combinations(sources.items(), 2):
        if isinstance(first, PreparedSource) and isinstance(second, PreparedSource):
            found += _torn(one, first, other, second)
    if not found:
        return
    named = "; ".join(found[:NAMED]) + (f"; and {len(found) - NAMED} more" if len(found) > NAMED else "")
    if config.dataset.get("allow_leaks", False):
        logging.warning("the splits of %s leak: %s", config.dataset.name, named)
        return
    raise InputError(
        f"the splits of {config.dataset.name} leak ({named}): split anew by scripts/prepare.py, or train on"
        " them all the same with --config.dataset.allow_leaks"
    )


def split_facts(source: Source) -> dict[str, Any]:
    """What every checkpoint and report says of the split of its data; nothing of data that are made up."""
    digest = getattr(source, "split_sha256", None)
    return {} if digest is None else {"split_sha256": digest}


def _torn(one: str, first: PreparedSource, other: str, second: PreparedSource) -> list[str]:
    same = {name for name, _, _ in first.parts} & {name for name, _, _ in second.parts}
    if not same:
        return []
    shared = sorted(set(first.groups()) & set(second.groups()))
    if not shared:
        return []
    return [f"{one} and {other} both have images of {', '.join(shared[:NAMED])}"]
