"""Exceptions whose message is written for the person at the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any


class InputError(ValueError):
    """Invalid user input: a config field, a file, a folder or a checkpoint.

    The message is one sentence that names the file or field and how to fix it. Scripts print it without
    a traceback and exit with code 2; other code can catch it like any ValueError.

    Attributes:
      kind: short name of the problem, such as "truncated", for code that must distinguish errors.
      field: the parameter that is invalid. The message then starts with it, so that a caller can prefix the
        section of a config: "encoder='x' is unknown" becomes "config.model.encoder='x' is unknown".
    """

    def __init__(self, message: str, *, kind: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.field = field


class Interrupted(Exception):  # noqa: N818 - not an error
    """A run was asked to stop and has saved its state.

    Attributes:
      exit_code: of the process: 128 + the number of the signal.
    """

    def __init__(self, message: str, *, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def first_line(error: BaseException) -> str:
    """Returns the first line of an error, or its type if it has no text."""
    return str(error).splitlines()[0] if str(error).strip() else type(error).__name__


def choose(options: Mapping[str, Any] | Iterable[str], field: str, value: str) -> Any:
    """Returns the option called `value`, or `value` itself if the options are names only.

    Raises:
      InputError: if there is no such option. The message lists the options.

    >>> choose({"small": 1, "large": 2}, "size", "small")
    1
    >>> choose(("align", "pool"), "pooling", "max")
    Traceback (most recent call last):
    segjax.errors.InputError: pooling='max' is unknown: choose one of align, pool
    """
    if not isinstance(value, str) or value not in options:
        raise InputError(f"{field}={value!r} is unknown: choose one of {', '.join(options)}", field=field)
    return options[value] if isinstance(options, Mapping) else value
