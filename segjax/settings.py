"""Base class of the dataclasses of settings: types and ranges are checked when one is made."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from numbers import Integral, Real
from typing import Annotated, Any

from segjax.errors import InputError

NAMES = {
    bool: "True or False",
    str: "a text",
    int: "an integer",
    float: "a finite number",
    types.NoneType: "None",
}


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a number may have.

    Attributes:
      low: smallest value, or the bound below it if `above` is True.
      high: largest value, or the bound above it if `below` is True.
      above: whether `low` itself is excluded.
      below: whether `high` itself is excluded.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        is_low = value <= self.low if self.above else value < self.low
        is_high = value >= self.high if self.below else value > self.high
        return not (is_low or is_high)

    def __str__(self) -> str:
        """Returns the end of the sentence "it must be ...".

        >>> str(Range(0, 1)), str(Range(0, above=True)), str(Range(0, 1, below=True))
        ('between 0 and 1', 'above 0', 'at least 0 and below 1')
        """
        if math.isfinite(self.low) and math.isfinite(self.high) and not (self.above or self.below):
            return f"between {self.low:g} and {self.high:g}"
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        high = f"{'below' if self.below else 'at most'} {self.high:g}"
        return " and ".join(
            text for text, bound in ((low, self.low), (high, self.high)) if math.isfinite(bound)
        )


Count = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]


class Settings:
    """A dataclass whose fields are checked against their types, such as `width: Positive`.

    Raises:
      InputError: if a value has another type or is out of range; `field` is its name.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Crop(Settings):
    ...     side: Count
    ...     overlap: Fraction = 0.5
    >>> Crop(64, overlap=2.0)
    Traceback (most recent call last):
    segjax.errors.InputError: overlap is 2.0; it must be between 0 and 1
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(typing.cast(Hashable, type(self))).items():
            value = getattr(self, name)
            rule = broken_rule(value, hint)
            if rule is not None:
                raise InputError(f"{name} is {_short(value)}; it must be {rule}", field=name)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def broken_rule(value: Any, hint: Any) -> str | None:
    """Returns what a value must be, or None if it is that.

    Args:
      value: the value.
      hint: a type, as in the annotations of `Settings`.

    >>> broken_rule((1, 0), tuple[Count, ...]), broken_rule((1, 2), tuple[Count, ...])
    ('of values that are each at least 1', None)
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return broken_rule(value, arguments[0]) or (None if value in arguments[1] else str(arguments[1]))
    if origin in (types.UnionType, typing.Union):
        rules = [broken_rule(value, kind) for kind in arguments]
        # The rule of the first kind: the others are None, for a field that may be empty.
        return None if None in rules else f"{rules[0]}, or None"
    if origin is tuple and arguments[-1] is not ...:
        if not isinstance(value, tuple | list) or len(value) != len(arguments):
            return f"{len(arguments)} values"
        return _first(broken_rule(item, kind) for item, kind in zip(value, arguments, strict=True))
    if origin in (tuple, Sequence):
        if not isinstance(value, tuple | list):
            return "a sequence of values, such as (1, 2)"
        return _each(_first(broken_rule(item, arguments[0]) for item in value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            return "a table of names and values"
        return _each(_first(broken_rule(item, arguments[1]) for item in value.values()))
    if hint is int or hint is float:
        is_number = isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
        return None if is_number and _is_finite(value) else NAMES[hint]
    if hint is bool or hint is str or hint is types.NoneType:
        return None if isinstance(value, hint) else NAMES[hint]
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return None if isinstance(value, hint) else f"a section with {', '.join(_hints(hint))}"
    return None


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def _first(rules: typing.Iterable[str | None]) -> str | None:
    return next((rule for rule in rules if rule is not None), None)


def _each(rule: str | None) -> str | None:
    return rule and f"of values that are each {rule}"
