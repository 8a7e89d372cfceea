"""Variants of configs such as `configs/semantic.py:encoder=resnet50`, and sections from dataclasses."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def parse(variant: str | None, options: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Parses `name=value,name=value`.

    Args:
      variant: text after the colon, may be empty or None.
      options: allowed values by name, the default first.

    Returns:
      A value for each name.

    Raises:
      ValueError: if a name or value is unknown; the message lists the choices.
    """
    chosen = {name: values[0] for name, values in options.items()}
    for part in (variant or "").split(","):
        if not part:
            continue
        name, _, value = part.partition("=")
        if name not in options:
            raise ValueError(f"unknown variant {name!r}: choose among {', '.join(options)}, as name=value")
        if value not in options[name]:
            raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(options[name])}")
        chosen[name] = value
    return chosen


def section(settings: Any) -> ConfigDict:
    """Returns the fields of a dataclass of settings; fields that are None can be set on the command line."""
    hints = typing.get_type_hints(type(settings))
    return ConfigDict(
        {
            name: placeholder(_kind(hints[name])) if value is None else value
            for name, value in dataclasses.asdict(settings).items()
        }
    )


def _kind(hint: Any) -> type:
    """Returns the type of a field such as `tuple[int, ...] | None`, a tuple for a sequence."""
    first = typing.get_args(hint)[0]
    kind = typing.get_origin(first) or first
    return tuple if kind is Sequence else kind
