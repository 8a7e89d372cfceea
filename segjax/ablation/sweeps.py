"""Sweeps: the points of an ablation, each a mapping from dotted fields of a config to values.

A sweep is any iterable of points. Two names are no fields: `config` is the config that a point changes, such
as `quickstart` or `semantic:dataset=bbbc038`, and `name` is what tables call the point.

>>> [*product(sweep("seed", [0, 1]), sweep("model.skips", [True, False]))][:2]
[{'seed': 0, 'model.skips': True}, {'seed': 0, 'model.skips': False}]
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from segjax.errors import InputError, first_line

Overrides = Mapping[str, Any]
Sweep = Iterable[Overrides]


def sweep(field: str, values: Iterable[Any]) -> list[Overrides]:
    """Returns one point for each value of a field."""
    return [{field: value} for value in values]


def product(*sweeps: Sweep) -> Iterator[Overrides]:
    """Yields all combinations; the last sweep varies fastest, and overrides fields of the earlier ones."""
    for points in itertools.product(*sweeps):
        yield {field: value for point in points for field, value in point.items()}


def zipit(*sweeps: Sweep) -> Iterator[Overrides]:
    """Yields the first points of all sweeps merged, then the second points, and so on.

    Raises:
      ValueError: if the sweeps differ in length.
    """
    for points in zip(*sweeps, strict=True):
        yield {field: value for point in points for field, value in point.items()}


def chain(*sweeps: Sweep) -> Iterator[Overrides]:
    """Yields the points of one sweep after the other."""
    return itertools.chain(*sweeps)


def load_sweep(text: str) -> tuple[list[Overrides], str]:
    """Loads what `--sweep` names.

    Args:
      text: `field=value,value`; or the name or file of a sweep with a variant after a colon, such as
        `encoders:dataset=bbbc038` or `my_sweep.py`.

    Returns:
      The points, and the question of the sweep: the docstring of its file.

    Raises:
      InputError: if there is no such sweep, or its file fails.
    """
    spec, _, variant = text.partition(":")
    if "=" in spec:
        return _parse_values(text), ""
    try:
        module = import_file(spec, "sweeps.")
        if not hasattr(module, "get_sweep"):
            raise InputError("it has no function get_sweep(variant)")
        points: list[Overrides] = [dict(point) for point in module.get_sweep(variant)]
    except Exception as error:
        raise InputError(
            f"--sweep={text} cannot be used ({first_line(error)}): give field=value,value, a file, or one of"
            f" {', '.join(shipped())}"
        ) from error
    return points, (module.__doc__ or "").strip()


def name_of(text: str) -> str:
    """Returns what stays the same if a sweep grows: its field, or the name of its file and its variant.

    >>> name_of("seed=0,1"), name_of("configs/sweeps/width.py:dataset=bbbc038"), name_of("width")
    ('seed', 'width:dataset=bbbc038', 'width')
    """
    spec, colon, variant = text.partition(":")
    return spec.partition("=")[0] if "=" in spec else f"{Path(spec).stem}{colon}{variant}"


def shipped() -> list[str]:
    """Returns the names of the sweeps in configs/sweeps/."""
    folder = importlib.import_module("segjax.configs").__path__[0]
    files = sorted(Path(folder, "sweeps").glob("*.py"))
    return [path.stem for path in files if "def get_sweep" in path.read_text(encoding="utf-8")]


def import_file(name: str, folder: str = "") -> ModuleType:
    """Imports a Python file, or a module of configs/.

    Args:
      name: name of a module of configs/, such as "quickstart", or the path of a file.
      folder: prefix of the modules, such as "sweeps.".

    Raises:
      ImportError: if there is no such module or file.
    """
    path = Path(name).expanduser()
    if path.suffix != ".py":
        return importlib.import_module(f"segjax.configs.{folder}{name}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parse_values(text: str) -> list[Overrides]:
    """Parses `field=value,value`; a value is a Python literal or else a text."""
    field, _, values = text.partition("=")
    if not field or not values:
        raise InputError(f"--sweep={text} is not field=value,value")
    try:
        literal = ast.literal_eval(f"[{values}]")
    except (SyntaxError, ValueError):
        literal = [_literal(value) for value in values.split(",")]
    return sweep(field, literal)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
