"""JSON that strangers wrote: bounded before it is parsed, and every complaint names file, entry and field."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from segjax.errors import InputError

MAX_JSON_BYTES = 2**29
KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number"}

T = TypeVar("T")


def load(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Reads a JSON file.

    NaN and infinity, which are no JSON but are written all the same, stay in the result: whoever uses a
    number asks for it by `JsonField.get` or `coordinates`, which refuse them and can say where they stand.

    Raises:
      InputError: if the file is missing, larger than `max_bytes`, or no JSON.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"{path} has {size} bytes, more than {max_bytes}; split it into several files")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check that it exists") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no JSON ({error}); export it again") from error


@dataclasses.dataclass(frozen=True, eq=False)
class JsonField:
    """One object of a JSON file.

    Attributes:
      where: the file and what the object is in it, to begin a complaint with.
      fields: as parsed.
    """

    where: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, value: Any, where: str) -> JsonField:
        """Takes a parsed value for an object.

        Raises:
          InputError: if it is something else.
        """
        if not isinstance(value, dict):
            raise InputError(f"{where} is not a JSON object; export the file again")
        return cls(where, value)

    def get(self, name: str, kind: type[T]) -> T:
        """A field that must be there.

        Args:
          name: of the field.
          kind: dict, list, str, int or float; a float may be written as a whole number and is finite.

        Raises:
          InputError: if it is missing, or of another kind.
        """
        value = self.fields.get(name)
        fits = isinstance(value, kind)
        if kind is float:
            fits = isinstance(value, int | float) and math.isfinite(value)
        # For Python true is a number.
        if not fits or (isinstance(value, bool) and kind in (int, float)):
            shown = "is missing" if name not in self.fields else f"is {_shortened(value)}"
            raise self.complaint(name, f"{shown}, not {KINDS[kind]}")
        return value  # type: ignore[return-value]

    def optional(self, name: str, kind: type[T]) -> T | None:
        """A field that may be missing or null."""
        return None if self.fields.get(name) is None else self.get(name, kind)

    def complaint(self, name: str, what: str) -> InputError:
        """The error that a field is wrong."""
        return InputError(f"{self.where}: {name} {what}; correct it or export the file again")


def coordinates(value: Any, where: JsonField, name: str) -> np.ndarray:
    """Takes a list of pairs for points.

    Args:
      value: `[[x, y], ...]`; numbers beyond the second, such as a height, are dropped.
      where: the entry it belongs to, and
      name: the field, for the complaint.

    Returns:
      [V, 2] float64, all finite.

    Raises:
      InputError: if it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) >= 2 for pair in value):
        raise where.complaint(name, "is not a list of points [x, y]")
    return numbers([number for pair in value for number in pair[:2]], where, name).reshape(-1, 2)


def numbers(value: Any, where: JsonField, name: str) -> np.ndarray:
    """Takes a list for numbers, [V] float64, all finite; see `coordinates`."""
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        raise where.complaint(name, "holds something that is no number")
    try:
        made = np.array(value, np.float64)
    except OverflowError as error:
        raise where.complaint(name, "holds a number too large to be a coordinate") from error
    if not np.isfinite(made).all():
        raise where.complaint(name, "holds NaN or an infinite number")
    return made


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
