"""Parsing of config variants such as `configs/semantic.py:encoder=resnet50`."""

from collections.abc import Mapping, Sequence


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
