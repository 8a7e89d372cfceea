"""Validated reading of untrusted JSON: size limits, and errors that name file, entry and field."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from segjax.data.readers import unreadable
from segjax.errors import InputError

# Kind of the errors of an annotation file, or of an entry in it.
INVALID = "invalid_annotation"
MAX_JSON_BYTES = 2**29
TYPE_NAMES = {dict: "an object", list: "a list", str: "a string", int: "an integer", float: "a number"}

T = TypeVar("T")


def load_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Reads a JSON file.

    NaN and infinity are not JSON, but many programs write them. They stay in the result: `JsonField.get`,
    `numbers` and `coordinates` refuse them and name the field.

    Raises:
      InputError: if the file is missing, larger than `max_bytes`, or not JSON.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(
                f"{path} has {size} bytes, more than {max_bytes}; split it into several files", kind=INVALID
            )
        return json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not JSON ({error}); export it again", kind=INVALID) from error


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class JsonField:
    """One object of a JSON file.

    Attributes:
      where: the file and the position of the object in it, the first words of every error.
      fields: the parsed object.
    """

    where: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, value: Any, where: str) -> JsonField:
        """Checks that a parsed value is an object.

        Raises:
          InputError: if it is something else.
        """
        if not isinstance(value, dict):
            raise InputError(f"{where} is not a JSON object; export the file again", kind=INVALID)
        return cls(where, value)

    @classmethod
    def load(cls, path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> JsonField:
        """Reads a file that holds one object, see `load_json`."""
        return cls.of(load_json(path, max_bytes=max_bytes), str(path))

    def get(self, name: str, kind: type[T]) -> T:
        """Returns a required field.

        Args:
          name: key of the field.
          kind: dict, list, str, int or float. A float is finite and may be written as an integer.

        Raises:
          InputError: if the field is missing or of another type.
        """
        value = self.fields.get(name)
        fits = isinstance(value, kind)
        if kind is float:
            fits = isinstance(value, int | float) and abs(value) <= sys.float_info.max
        # In Python bool is a subclass of int.
        if not fits or (isinstance(value, bool) and kind in (int, float)):
            shown = "is missing" if name not in self.fields else f"is {_shorten(value)}"
            raise self.error(name, f"{shown}, not {TYPE_NAMES[kind]}")
        return value  # type: ignore[return-value]

    def optional(self, name: str, kind: type[T]) -> T | None:
        """Returns a field that may be missing or null."""
        return None if self.fields.get(name) is None else self.get(name, kind)

    def child(self, name: str) -> JsonField:
        """Returns a required field that is an object."""
        return JsonField(f"{self.where}: {name}", self.get(name, dict))

    def children(self, name: str, *, strict: bool = True) -> list[JsonField]:
        """Returns a required field that is a list of objects.

        Args:
          name: key of the field.
          strict: whether every entry must be an object. If False, one that is not has no fields, so that
            reading it fails and the others can be used.
        """
        return [
            JsonField.of(value if strict or isinstance(value, dict) else {}, f"{self.where}: {name}[{index}]")
            for index, value in enumerate(self.get(name, list))
        ]

    def error(self, name: str, problem: str, *, kind: str = INVALID) -> InputError:
        """Returns the error that a field is invalid."""
        return InputError(f"{self.where}: {name} {problem}; correct it or export the file again", kind=kind)


def coordinates(value: Any, entry: JsonField, name: str) -> np.ndarray:
    """Converts a JSON list of points to an array.

    Args:
      value: `[[x, y], ...]`; further numbers of a point, such as a height, are dropped.
      entry: the object that holds the list, for errors.
      name: the field of `entry`, for errors.

    Returns:
      [V, 2] float64, finite.

    Raises:
      InputError: if the value is something else.
    """
    if not isinstance(value, list) or not all(isinstance(point, list) and len(point) >= 2 for point in value):
        raise entry.error(name, "is not a list of points [x, y]")
    return numbers([number for point in value for number in point[:2]], entry, name).reshape(-1, 2)


def numbers(value: Any, entry: JsonField, name: str) -> np.ndarray:
    """Converts a JSON list of numbers to [V] float64, finite; see `coordinates`."""
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        raise entry.error(name, "is not a list of numbers")
    try:
        array = np.array(value, np.float64)
    except OverflowError as error:
        raise entry.error(name, "holds a number too large for a coordinate") from error
    if not np.isfinite(array).all():
        raise entry.error(name, "holds NaN or an infinite number")
    return array


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
