"""Checks that the splits do not leak, and the digests of the data of a run."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from segjax.data.records import Source
from segjax.datasets.sources import PreparedSource
from segjax.errors import InputError, first_line
from segjax.experiment.setup import SPLITS, open_split
from segjax.files import file_digest
from segjax.train.checkpoint_files import CheckpointReader

# Maximum number of leaks that an error names.
NAMED = 3


def check_leaks(config: ConfigDict) -> None:
    """Refuses splits that leak.

    Official splits of one data set are accepted as published. Parts of one split, such as `train[:80%]` and
    `train[80%:]`, and splits of different data sets must not have a group in common.

    Args:
      config: the config of a run. `config.dataset.allow_leaks` turns the error into a warning.

    Raises:
      InputError: if the splits leak; the message names the leaks.
    """
    sources = {split: open_split(config, split) for split in SPLITS}
    leaks: list[str] = []
    for source in sources.values():
        leaks += [leak for leak in getattr(source, "leaks", ()) if leak not in leaks]
    groups = functools.cache(lambda part: frozenset(part.groups()))
    for (one, first), (other, second) in itertools.combinations(sources.items(), 2):
        for first_part, second_part in itertools.product(_prepared(first), _prepared(second)):
            if _are_official(first_part, second_part):
                continue
            if shared := sorted(groups(first_part) & groups(second_part)):
                leaks.append(f"{one} and {other} both have images of {', '.join(shared[:NAMED])}")
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


def data_digests(splits: Mapping[str, Source], digest: Callable[[Path], str] = file_digest) -> dict[str, str]:
    """Returns the digests of the data of splits, which the result of a training depends on.

    Args:
      splits: source of each split, by name; "train" is one of them.
      digest: returns the digest of a file.

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
                content = "".join(pool.map(digest, files))
                digests[f"{name}_files_sha256"] = hashlib.sha256(content.encode()).hexdigest()
    return digests


def stored_digests(workdir: Path) -> dict[str, str]:
    """Returns the `data_digests` of a run when it was trained; empty if its checkpoints have none."""
    return dict(CheckpointReader(workdir / "checkpoints").last_progress().get("run_metadata", {}))


def have_other_images(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Returns whether two `data_digests` are of different training images.

    They are of the same images if either the splits or the training files are the same: annotations may be
    corrected, and images added to other splits. Digests that one of them lacks do not count.
    """
    names = [name for name in ("split_sha256", "train_files_sha256") if name in first and name in second]
    return bool(names) and all(first[name] != second[name] for name in names)


def warn_of_other_images(workdir: Path, config: ConfigDict) -> list[str]:
    """Returns and logs a warning if a run was trained on other images than its data set has now.

    Args:
      workdir: folder of the run.
      config: its config; the data may have moved.

    Returns:
      The warning, also if the training images cannot be read; nothing if they are the same, or the run has
      no digests.
    """
    stored, name = stored_digests(workdir), config.dataset.name
    if not stored:
        return []
    try:
        if not have_other_images(stored, _digests_now(config, stored)):
            return []
        warning = (
            f"{workdir} was trained on other images than the training split of {name} has now, so that"
            " images of this evaluation may be among them: restore the data, or train again in another"
            " --workdir."
        )
    except (InputError, OSError) as error:
        warning = (
            f"It is unknown whether images of this evaluation are among those that {workdir} was trained on,"
            f" because the training split of {name} cannot be read ({first_line(error)}): restore the data."
        )
    logging.warning(warning)
    return [warning]


def _digests_now(config: ConfigDict, stored: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the digests of the training split, as far as they are needed to compare them with others."""
    source = open_split(config, "train")
    facts = split_facts(source)
    # The training files, which may be large, are read only if the splits differ, or have no digest.
    if facts and facts.items() <= stored.items():
        return facts
    return data_digests({"train": source}, _known_digest)


def _known_digest(path: Path) -> str:
    """Returns the digest of a file, which is read once unless it changes: several runs have the same data."""
    state = path.stat()
    return _digest_of(path.absolute(), state.st_size, state.st_mtime_ns)


@functools.cache
def _digest_of(path: Path, size: int, time: int) -> str:
    del size, time  # a file that changes is read again
    return file_digest(path)


def _prepared(source: Source) -> list[PreparedSource]:
    """Returns the prepared data sets that a source consists of."""
    if isinstance(source, PreparedSource):
        return [source]
    return [part for inner in getattr(source, "sources", ()) for part in _prepared(inner)]


def _are_official(first: PreparedSource, second: PreparedSource) -> bool:
    """Returns whether two sources are different official splits of one data set."""
    if first.files[0].parent != second.files[0].parent:
        return False
    return {name for name, _, _ in first.parts}.isdisjoint(name for name, _, _ in second.parts)
