"""Means of scores over images and groups."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any


def average(rows: Sequence[Any], groups: Sequence[str] = (), kind: str = "image") -> Any:
    """Returns the mean over images, or over groups of the means over their images.

    NaN is left out, and a mean of nothing is NaN. Sums are exact: the order does not matter.

    Args:
      rows: scores of each image: floats, or equal dictionaries or dataclasses of them. Integers are counts,
        which are added.
      groups: the group of each image, for "group".
      kind: "group" for the mean over groups.

    >>> average([1.0, 3.0, 5.0]), average([1.0, 3.0, 5.0], ["a", "a", "b"], "group")
    (3.0, 3.5)
    """
    if kind == "group":
        members: dict[str, list[Any]] = {}
        for group, row in zip(groups, rows, strict=True):
            members.setdefault(group, []).append(row)
        rows = [_mean(values) for values in members.values()]
    return _mean(rows)


def _mean(values: Sequence[Any]) -> Any:
    first: Any = values[0]
    if dataclasses.is_dataclass(first):
        kind: Any = type(first)
        return kind(**_mean([vars(value) for value in values]))
    if isinstance(first, dict):
        return {key: _mean([value[key] for value in values]) for key in first}
    if isinstance(first, int):
        return sum(values)
    if not isinstance(first, float):
        return first
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
