"""Reads that may fail: further attempts, and digests that show whether content changed."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from segjax.errors import first_line
from segjax.settings import NonNegative, NonNegativeInt, broken_rule
from segjax.train.state import digests
from segjax.typing import PyTree

T = TypeVar("T")
# Seconds before each further attempt to read a file: many errors of a network, disk or full memory pass.
DELAYS = (0.1, 0.5)


# What a run stores with a checkpoint.
PROGRESS = {
    "seconds": NonNegative,
    "best": Mapping[str, object] | None,
    "since_best": NonNegativeInt,
    "stopped": bool,
    "rollbacks": NonNegativeInt,
    "run_metadata": Mapping[str, object],
    "config": Mapping[str, object],
    "versions": Mapping[str, object],
}


class Unusable(Exception):  # noqa: N818 - its message is a part of a sentence
    """A checkpoint cannot be used; the message says why."""


def attempt(read: Callable[[], T]) -> T:
    """Reads, up to three times.

    Raises:
      Unusable: if it fails each time.
    """
    for delay in (*DELAYS, None):
        try:
            return read()
        except Exception as error:  # Orbax and TensorStore raise many types
            if delay is None or isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
                raise Unusable(first_line(error)) from error
            time.sleep(delay)
    raise AssertionError


def check_progress(progress: Any) -> None:
    """Checks the kind of each value that a run stores with a checkpoint, of those that are there.

    Raises:
      Unusable: if one is of another kind; the message names it.
    """
    if not isinstance(progress, dict):
        raise Unusable("its progress is no JSON object")
    for name in PROGRESS.keys() & progress.keys():
        if rule := broken_rule(progress[name], PROGRESS[name]):
            raise Unusable(f"{name} in its progress must be {rule}")
    best = progress.get("best")
    if best is None:
        return
    if not best.keys() >= {"step", "score"}:
        raise Unusable("best in its progress must have a step and a score")
    # The score of a network may be NaN.
    score = 0.0 if isinstance(best["score"], float) and math.isnan(best["score"]) else best["score"]
    for name, value, kind in (("step", best["step"], NonNegativeInt), ("score", score, float)):
        if rule := broken_rule(value, kind):
            raise Unusable(f"the {name} of best in its progress must be {rule}")


def json_digest(content: Any) -> str:
    """Returns the sha256 of a JSON value; it does not depend on the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_digests(expected: Mapping[str, str], tree: PyTree) -> None:
    """Checks every array of a tree.

    Raises:
      Unusable: if a digest is missing or differs, or an array is missing.
    """
    actual = digests(tree)
    changed = sorted(name for name in expected.keys() | actual if actual.get(name) != expected.get(name))
    if changed:
        raise Unusable(f"the digest of {changed[0]} and {len(changed) - 1} more differ")
