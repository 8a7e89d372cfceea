"""Series of images: the frames of a time series, or the slices of a stack."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from segjax.data.readers import find_stack_axis
from segjax.data.readers.lazy import is_lazy_only
from segjax.errors import InputError
from segjax.experiment.prediction_inputs import Inputs, Reading


class SeriesKind(NamedTuple):
    """A kind of series: the frames of a time series, or the slices of a stack.

    Attributes:
      flag: the flag of `segjax predict` for it.
      letter: name of its axis in a file.
      part: word for one image.
      formats: names of the exports that can be written.
      standard: names of the exports that are written by default.
    """

    flag: str
    letter: str
    part: str
    formats: tuple[str, ...]
    standard: tuple[str, ...]


FRAMES = SeriesKind("--frames", "T", "frame", ("ctc", "labels", "overlay", "csv"), ("ctc", "overlay"))
STACK = SeriesKind("--stack", "Z", "slice", ("labels", "overlay", "csv"), ("labels", "overlay"))
DIGITS = re.compile(r"(\d+)")
# The text between two numbers of a time, such as 00d12h30m or 12-30; after a date or a day, such as
# 2024-01-05_12 or day1_hour12; and before the number of a day.
TIME = re.compile(r"d|h|min|m|s|[-.:]")
AFTER_DAY = re.compile(r"[-_ ]?(|t|h|hr|hour)[-_ ]?", re.IGNORECASE)
DAY = re.compile(r"(?<![a-z])(d|day)[-_ ]?$", re.IGNORECASE)
# Dates such as 20240105.
DATES = range(19000101, 21001232)


class Part(NamedTuple):
    """One image of a series.

    Attributes:
      name: its name in messages.
      key: path of its results without suffix, relative to the folder of all results, with "/" between parts.
      path: its file.
      reading: how the file becomes the image.
    """

    name: str
    key: str
    path: Path
    reading: Reading

    @property
    def stem(self) -> str:
        """The name of its results without suffix."""
        return self.key.rpartition("/")[2]


class Series(NamedTuple):
    """A series of images.

    Attributes:
      key: folder of its results, relative to the folder of all results, with "/" between parts; may be "".
      name: its name in messages.
      parts: its images, in order.
    """

    key: str
    name: str
    parts: tuple[Part, ...]


def find_series(inputs: Inputs, reading: Reading, kind: SeriesKind) -> tuple[list[Series], dict[str, str]]:
    """Makes a series of each file that is a stack, and one of the other images of each folder.

    The images of a folder are in natural order: t2 comes before t10.

    Args:
      inputs: the images.
      reading: how files become images, without the axis of the series.
      kind: what the images of a series are.

    Returns:
      The series; and the reason for each file that cannot be read, by its name.

    Raises:
      InputError: if two series would have the same results.
    """
    folders: dict[str, list[Part]] = {}
    series: dict[str, Series] = {}
    failed = {}
    for key, path in inputs.images.items():
        if is_lazy_only(path):
            failed[inputs.name(path)] = (
                f"{path} is an OME-Zarr or a slide, for which there is no {kind.flag}: save it as TIFF, or"
                f" leave {kind.flag} out, and choose a {kind.part} by --axis={kind.letter}=0"
            )
            continue
        try:
            axis = find_stack_axis(
                path,
                kind.letter,
                channel_axis=reading.channel_axis,
                chosen=[name for name, _ in reading.planes],
            )
        except InputError as error:
            failed[inputs.name(path)] = str(error)
            continue
        if axis is None:
            folders.setdefault(key.rpartition("/")[0], []).append(Part(str(path), key, path, reading))
            continue
        parts = tuple(
            Part(
                f"{kind.part} {number} of {path}",
                f"{key}/{kind.part}{number:03}",
                path,
                dataclasses.replace(reading, planes=(*reading.planes, (axis.number, number))),
            )
            for number in range(axis.length)
        )
        series[key] = Series(key, inputs.name(path), parts)
    for key, members in folders.items():
        if key in series:
            raise InputError(
                f"the stack {series[key].name} and the folder {key} would have the same results: rename one"
            )
        parts = tuple(sorted(members, key=lambda part: natural_order(part.path.name)))
        series[key] = Series(key, key or inputs.root.name, parts)
    return list(series.values()), failed


def natural_order(name: str) -> list[str | int]:
    """Returns a key that sorts names by the numbers in them.

    >>> sorted(["t10.png", "t2.png", "t1.png"], key=natural_order)
    ['t1.png', 't2.png', 't10.png']
    >>> natural_order("1²2")
    ['', 1, '²', 2, '']
    """
    return [int(part) if part.isdecimal() else part for part in DIGITS.split(name)]


def check_series(series: Series, kind: SeriesKind) -> None:
    """Checks the number of images of a series, and that the numbers in their names are those of one series.

    Raises:
      InputError: if there is only one image, a number is missing, or there are several channels or planes.
    """
    if len(series.parts) < 2:
        raise InputError(
            f"{series.parts[0].path} is a single image: give {kind.flag} a folder with several"
            f" {kind.part}s, or a file with an axis {kind.letter}, or leave the flag out"
        )
    names = [natural_order(part.path.name) for part in series.parts]
    if len({len(name) for name in names}) > 1:
        return
    varying = [position for position, column in enumerate(zip(*names, strict=True)) if len(set(column)) > 1]
    if any(position % 2 == 0 for position in varying):
        return
    _check_numbers(series, kind, names, varying)
    if len(varying) != 1:
        return
    numbers = [name[varying[0]] for name in names]
    steps = [int(second) - int(first) for first, second in itertools.pairwise(numbers)]
    # The most frequent step, the smallest if several are. Numbers that are times have no usual step.
    usual, count = min(Counter(steps).items(), key=lambda item: (-item[1], item[0]))
    if 2 * count < len(steps):
        return
    for first, step in enumerate(steps):
        if usual > 0 and step > usual and step % usual == 0:
            raise InputError(
                f"{series.parts[first].path} is followed by {series.parts[first + 1].path.name}, so that"
                f" {kind.part} {int(numbers[first]) + usual} is missing: add it, or number the files"
                " without a gap"
            )


def _check_numbers(
    series: Series, kind: SeriesKind, names: list[list[str | int]], varying: list[int]
) -> None:
    """Refuses images with all combinations of two or more numbers, such as time and channel.

    The numbers of days, hours and minutes are one time.
    """
    counts = [len({name[position] for name in names}) for position in varying]
    is_time = all(_is_time(names[0], position) for position in varying[:-1])
    if len(varying) > 1 and math.prod(counts) == len(names) and not is_time:
        raise InputError(
            f"{series.parts[0].path} and the other images of its folder have all combinations of"
            f" {len(varying)} numbers in their names, {' x '.join(map(str, counts))}: put the {kind.part}s of"
            " each channel, plane or position into a folder of their own, or write times as 2024-01-05_09-30"
            " or day1_hour09"
        )


def _is_time(name: list[str | int], position: int) -> bool:
    """Returns whether a number in a name and the next one are parts of a time."""
    before, number, after = str(name[position - 1]), name[position], str(name[position + 1])
    if TIME.fullmatch(after):
        return True
    date = [part for part in name[max(position - 4, 0) : position + 1 : 2] if isinstance(part, int)]
    is_date = len(date) == 3 and 1900 <= date[0] <= 2100 and date[1] <= 12 and date[2] <= 31
    is_day = number in DATES or is_date or DAY.search(before) is not None
    return is_day and AFTER_DAY.fullmatch(after) is not None
