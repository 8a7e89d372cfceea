"""Checks the fields of a request, in its JSON or in its address."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from segjax.errors import InputError


def read_object(body: bytes) -> dict[str, Any]:
    """Reads a JSON object; an empty body is an empty object.

    Raises:
      InputError: if the body is not a JSON object.
    """
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON ({error}): send an object") from error
    if not isinstance(content, dict):
        raise InputError("the body is not a JSON object: send one such as {}")
    return content


def read_diameter(value: Any) -> float:
    """Returns a diameter in pixels; 0 for "auto", "" and None.

    Raises:
      InputError: if it is anything else than a number from 0 to 100,000.
    """
    if value in (None, "", "auto"):
        return 0.0
    try:
        diameter = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        diameter = -1.0
    if not 0 <= diameter < 1e5:
        raise InputError(f"diameter is {value!r}: give pixels, or auto")
    return diameter


def read_ids(value: Any) -> list[int]:
    """Returns the ids of cells.

    Raises:
      InputError: if it is not a list of integers.
    """
    if not isinstance(value, list) or not value or not all(type(one) is int for one in value):
        raise InputError("the ids of cells must be a list of integers, such as [3, 7]")
    return value


def read_outline(value: Any) -> list[tuple[float, float]]:
    """Returns the vertices `(x, y)` of an outline.

    Raises:
      InputError: if it is not a list of pairs of finite numbers.
    """
    try:
        outline = [(float(x), float(y)) for x, y in value]
    except (TypeError, ValueError, OverflowError):
        outline = []
    if not outline or not all(abs(number) < 1e6 for point in outline for number in point):
        raise InputError("an outline must be a list of points, such as [[10, 10], [20, 10], [15, 20]]")
    return outline


def read_numbers(values: Mapping[str, str]) -> dict[str, float]:
    """Returns the numbers of the settings in an address.

    Raises:
      InputError: if one is not a number.
    """
    numbers = {}
    for name, text in values.items():
        try:
            numbers[name] = float(text)
        except ValueError:
            numbers[name] = math.nan
        if not math.isfinite(numbers[name]):
            raise InputError(f"{name}={text} is not a number: give one, such as {name}=0.5")
    return numbers
