"""The names of classes: found in the annotations, or given by the user and held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from segjax.errors import InputError

# What tools write for "no class" and "do not judge"; neither is a class of instances.
BACKGROUND = ("background", "_background_")
IGNORED = "__ignore__"


def names_of(found: Iterable[str], given: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of all classes, background first.

    Args:
      found: in the annotations, in the order in which they become classes 1, 2, ...; repeats are dropped.
      given: by the user, background first; None to take those found.

    Returns:
      At least two names; the second is `cell` where nothing is named.
    """
    if given is not None:
        return given
    named = [name for name in dict.fromkeys(found) if name not in (*BACKGROUND, IGNORED)]
    return ("background", *(named or ["cell"]))


def names_in(files: Iterable[Path], read: Callable[[Path], Iterable[str]]) -> list[str]:
    """The names that annotations of one file for each image use, in the order of the alphabet.

    A file that cannot be read names nothing here; it is complained about when its image is read, so that one
    damaged file does not cost all others.
    """
    found: set[str] = set()
    for path in files:
        try:
            found.update(read(path))
        except InputError:
            continue
    return sorted(found)


def class_of(name: str | None, class_names: tuple[str, ...], where: str) -> int:
    """The class of an instance by its name.

    Args:
      name: as the annotator wrote it; None where nothing is written, which is enough if there is one class.
      class_names: background first.
      where: what is complained about: file, annotation and field.

    Raises:
      InputError: if the name is none of them.
    """
    if name is None and len(class_names) == 2:
        return 1
    if name in class_names[1:]:
        return class_names.index(name, 1)
    written = "is missing" if name is None else f"is {name!r}"
    raise InputError(f"{where} {written}; the classes are {', '.join(class_names[1:])}")
