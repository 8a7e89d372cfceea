"""Makes dataclasses of settings from sections of a config."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from ml_collections import ConfigDict

from segjax.errors import InputError

T = TypeVar("T")


@contextmanager
def config_section(path: str) -> Iterator[None]:
    """Prefixes the field that an `InputError` names with the section of the config."""
    try:
        yield
    except InputError as error:
        if error.field is None:
            raise
        raise InputError(f"{path}.{error}", kind=error.kind) from error


def read_section(kind: type[T], section: Mapping[str, Any], path: str, **values: Any) -> T:
    """Makes a dataclass from a section of a config.

    Args:
      kind: the dataclass; fields that are dataclasses are made from subsections.
      section: field -> value. Missing fields have their defaults.
      path: path of the section in the config, for error messages.
      **values: further fields, from the top of the config.

    Raises:
      InputError: for an unknown or missing field, or a value that is not allowed; it names the field.
    """
    if not isinstance(section, Mapping | ConfigDict):
        raise InputError(f"{path} is {section!r}; it must be a section with {', '.join(fields_of(kind))}")
    hints, top = typing.get_type_hints(kind), set(values)
    for name, value in section.items():
        if name not in hints or name in top:
            raise InputError(f"{path}.{name} is unknown: {path} has {', '.join(fields_of(kind))}")
        if dataclasses.is_dataclass(hints[name]):
            value = read_section(typing.cast(type, hints[name]), value, f"{path}.{name}")
        values[name] = value.to_dict() if isinstance(value, ConfigDict) else value
    for name, is_required in fields_of(kind).items():
        if is_required and name not in values:
            raise InputError(f"{path}.{name} is missing: set it, as the configs in configs/ do")
    try:
        return kind(**values)
    except InputError as error:
        if error.field is None:
            raise
        prefix = "config" if error.field in top else path
        raise InputError(f"{prefix}.{error}", kind=error.kind) from error


def fields_of(kind: type[Any]) -> dict[str, bool]:
    """Returns the name of each field, and whether it has no default."""
    missing = dataclasses.MISSING
    return {
        field.name: field.default is missing and field.default_factory is missing
        for field in dataclasses.fields(kind)
    }


def section_of(config: ConfigDict, name: str) -> ConfigDict:
    """Returns a section of a config.

    Raises:
      InputError: if there is none.
    """
    section = config.get(name)
    if not isinstance(section, ConfigDict):
        raise InputError(f"config.{name} is missing: set it, as the configs in configs/ do")
    return section


def part_of(section: ConfigDict, kind: type[Any], *, without: bool = False) -> dict[str, Any]:
    """Returns the entries of a section that are fields of a dataclass, or all others."""
    return {name: value for name, value in section.items() if (name in fields_of(kind)) != without}
