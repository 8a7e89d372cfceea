"""Expands a sweep to points: the config of each, checked, with the names of its folder and of its row."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from segjax.ablation.checks import check_point
from segjax.ablation.named_files import content_digests
from segjax.ablation.sweeps import Overrides, import_file
from segjax.errors import InputError, first_line
from segjax.experiment.workdir import WITHOUT_EFFECT, flat_config

# Fields of points that are no fields of a config.
CONFIG, NAME, SEED = "config", "name", "seed"
# The folder of the data does not count, but their digests do, see `expand`.
DATA_DIR = "dataset.data_dir"
# Fields that do not count. `data.cache_bytes` counts, though it has no effect, because the keys of finished
# points contain it.
NOT_IN_KEY = (DATA_DIR, "data.workers", "ensemble", "train.log_every")
# Label of points that differ in the seed only.
ALL = "all"
# Maximum length of the readable part of the name of a folder.
MAX_SLUG = 80


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """A point of a sweep.

    Attributes:
      label: what distinguishes it from the other points of its sweep, the seed excluded.
      overrides: its fields and their values.
      config: the config with these values.
      key: digest of the config, of the files that it names, and of split and number of images; equal for
        points with equal results.
      row_key: the key that it has with the seed 0; equal for points that differ in the seed only.
    """

    label: str
    overrides: Overrides
    config: ConfigDict
    key: str
    row_key: str

    @property
    def name(self) -> str:
        """What distinguishes it from the other points of its sweep, the seed included."""
        if SEED not in self.overrides:
            return self.label
        seed = f"seed={self.overrides[SEED]}"
        return seed if self.label == ALL else f"{self.label}, {seed}"

    @property
    def folder(self) -> str:
        """The name of its folder: readable, and unique by the key."""
        seed = f",seed={self.overrides[SEED]}" if SEED in self.overrides else ""
        slug = re.sub(r"[^\w.=,+-]+", "_", self.label.replace(", ", ",")).strip("._-")[:MAX_SLUG]
        return f"{slug}{seed}-{self.key}"

    @property
    def row(self) -> str:
        """What it shares with the points that differ in the seed only."""
        return text_of(without_seed(self.overrides))

    @property
    def is_classical(self) -> bool:
        """Whether the method has no weights to train."""
        return "methods" in self.config


def expand(
    sweep: Iterable[Overrides],
    base: ConfigDict | None = None,
    *,
    about: Mapping[str, Any],
    digests_of: Callable[[ConfigDict], Mapping[str, str]] | None = None,
) -> list[Point]:
    """Makes the points of a sweep, and checks them all before the first one runs.

    Args:
      sweep: the overrides of each point.
      base: the config that points without `config` change.
      about: what else determines the result of a point, such as the split that is evaluated.
      digests_of: returns the digests of the data of a config, if its name does not determine them.

    Raises:
      InputError: if there is no point, two points are the same, or a field or value of a config is invalid.
    """
    points: dict[str, Point] = {}
    configs: dict[str, ConfigDict] = {}
    known: dict[Path, str] = {}
    sweep = list(sweep)
    for label, overrides in zip(labels(sweep), sweep, strict=True):
        config = _make_config(overrides, base, configs)
        what = {**about, **(digests_of(config) if digests_of else {}), **content_digests(config, known)}
        point = Point(label, overrides, config, _key(config, what), _key(_with_first_seed(config), what))
        if point.key in points:
            raise InputError(
                f"two points of the sweep are the same config: {describe(points[point.key].overrides)} and"
                f" {describe(overrides)}; leave one out"
            )
        points[point.key] = point
    if not points:
        raise InputError("the sweep has no point: name values, such as --sweep=seed=0,1,2")
    return [*points.values()]


def _key(config: ConfigDict, what: Mapping[str, Any]) -> str:
    # Fields without a value do not count, so that a later version with further ones repeats no point.
    facts = {
        name: value
        for name, value in flat_config(config).items()
        if value is not None and name not in NOT_IN_KEY
    }
    content = json.dumps([facts, what], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def _with_first_seed(config: ConfigDict) -> ConfigDict:
    config = copy.deepcopy(config)
    config.seed = 0
    return config


def seeds_first(points: Iterable[Point]) -> list[Point]:
    """Orders points such that a sweep has a row of every config before any config has a second seed."""
    seeds: dict[str, int] = {}
    order = {}
    for point in points:
        order[point] = seeds[point.row] = seeds.get(point.row, -1) + 1
    return sorted(order, key=order.__getitem__)


def describe(overrides: Overrides) -> str:
    """Returns overrides as `field=value, field=value`."""
    return ", ".join(f"{field}={value}" for field, value in overrides.items())


def command_of(overrides: Overrides, split: str = "test") -> str:
    """Returns the command that trains, or evaluates, one point; "" if flags cannot say it.

    Args:
      overrides: the fields of the point.
      split: the split that is evaluated.

    >>> command_of({"config": "quickstart", "steps": 100, "model.encoder": "resnet50", "seed": 1})
    'segjax train --config=quickstart --config.steps=100 --config.model.encoder=resnet50 --config.seed=1'
    """
    spec = str(overrides.get(CONFIG) or "")
    fields = {
        field: value for field, value in overrides.items() if field not in (CONFIG, NAME, *WITHOUT_EFFECT)
    }
    is_classical = spec.startswith("classical")
    # A training is evaluated on the test split.
    if not (is_classical or split == "test"):
        return ""
    if not spec or any(isinstance(value, Mapping) for value in fields.values()):
        return ""
    # No flag empties a field.
    empty = [field for field, value in fields.items() if value is None]
    if empty and not _are_empty(spec, empty):
        return ""
    flags = {"config": spec} | {
        f"config.{field}": str(fields[field]) for field in fields if field not in empty
    }
    if split != "test":
        flags["split"] = split
    words = (f"--{name}={_quoted(value)}" for name, value in flags.items())
    return f"segjax {'evaluate' if is_classical else 'train'} {' '.join(words)}"


def _are_empty(spec: str, fields: Iterable[str]) -> bool:
    """Returns whether a config has no value in any of these fields."""
    try:
        values = flat_config(load_config(spec))
    except InputError:  # a point that the sweep no longer has may name a config that is gone
        return False
    return all(values.get(field) is None for field in fields)


def _quoted(text: str) -> str:
    """Quotes a text for a shell, with the double quotes that are easier to read if they do."""
    return shlex.quote(text) if shlex.quote(text) == text or re.search(r'["$`\\!]', text) else f'"{text}"'


def text_of(value: Any) -> str:
    """Returns a text that is the same for equal values, also if one was stored as JSON."""
    return json.dumps(value, sort_keys=True, default=str)


def without_seed(overrides: Overrides) -> Overrides:
    """Returns all fields but the seed."""
    return {field: value for field, value in overrides.items() if field != SEED}


def labels(points: Iterable[Overrides]) -> list[str]:
    """Returns what distinguishes each point from the others: its name, and the fields that vary.

    Points that differ in the seed only have the same label.

    >>> labels([{"a.x": 1, "b": 2, "seed": 0}, {"a.x": 2, "b": 2, "seed": 0}])
    ['x=1', 'x=2']
    >>> labels([{"name": "wide", "x": 1}, {"name": "wide", "x": 2}, {"name": "narrow", "x": 1}])
    ['wide, x=1', 'wide, x=2', 'narrow']
    """
    points = list(points)
    # A name stands for the fields that all points of this name have in common.
    alike: dict[Any, list[Overrides]] = {}
    for point in points:
        alike.setdefault(point.get(NAME), []).append(point)
    varying = {name: varying_fields(points if name is None else same) for name, same in alike.items()}
    return [_label(point, varying[point.get(NAME)]) for point in points]


def varying_fields(points: Collection[Overrides]) -> list[str]:
    """Returns the fields that differ between points, without name and seed."""
    fields = dict.fromkeys(field for point in points for field in point)
    return [
        field
        for field in fields
        if field not in (NAME, SEED) and len({text_of(point.get(field)) for point in points}) > 1
    ]


def _label(point: Overrides, fields: Iterable[str]) -> str:
    parts = [str(point[NAME])] if NAME in point else []
    for field in fields:
        if field in point:
            value = point[field]
            parts.append(str(value) if field == CONFIG else f"{field.rpartition('.')[2]}={value}")
    return ", ".join(parts) or ALL


def _make_config(overrides: Overrides, base: ConfigDict | None, configs: dict[str, ConfigDict]) -> ConfigDict:
    spec = overrides.get(CONFIG)
    if spec is None and base is None:
        raise InputError(f"the point {describe(overrides)} has no config: give --config, or the field config")
    if spec is not None and spec not in configs:
        configs[spec] = load_config(spec)
    config = copy.deepcopy(base if spec is None else configs[spec])
    assert config is not None
    try:
        for field, value in overrides.items():
            if field not in (CONFIG, NAME):
                _set(config, field, value)
        check_point(config)
    except InputError as error:
        raise InputError(f"the point {describe(overrides)} is invalid: {error}") from error
    return config


def load_config(spec: str) -> ConfigDict:
    """Loads a config by its name or file and its variant, such as `semantic:encoder=resnet50`.

    Raises:
      InputError: if there is no such config or variant.
    """
    name, _, variant = str(spec).partition(":")
    try:
        config: ConfigDict = import_file(name).get_config(variant)
    except Exception as error:
        raise InputError(f"config={spec} cannot be loaded ({first_line(error)}): correct it") from error
    return config


def _set(config: ConfigDict, field: str, value: Any) -> None:
    """Sets a field of a section that exists; `check_point` refuses fields that the section does not have."""
    *sections, name = field.split(".")
    section = config
    for part in sections:
        section = section.get(part)
        if not isinstance(section, ConfigDict):
            raise InputError(f"config.{field} does not exist: there is no section {part}")
    if not sections and name not in config:
        raise InputError(f"config.{field} does not exist: the config has {', '.join(sorted(config))}")
    if isinstance(section.get(name), ConfigDict) != isinstance(value, Mapping):
        raise InputError(
            f"config.{field} cannot be {value!r}: a section and a value do not replace each other"
        )
    try:
        with section.unlocked():
            section[name] = ConfigDict(value) if isinstance(value, Mapping) else value
    except (TypeError, ValueError) as error:
        kind = section.get_type(name).__name__
        raise InputError(f"config.{field} is {value!r}; it must be of the type {kind}") from error
