"""Reads the table of the images: patient, split, class and pixel size of each."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from absl import logging

from segjax.data.readers import SUFFIXES, unreadable
from segjax.errors import InputError

# Columns that name a group, the widest first. The first one present is the group of an image.
GROUPS = ("patient", "group", "slide", "well", "acquisition")
FIELDS = (*GROUPS, "split", "class", "pixel_size")
# Headers of each column, in lower case and without spaces and punctuation.
HEADERS: dict[str, tuple[str, ...]] = {
    "image": ("image", "imageid", "imagename", "imagefile", "file", "filename", "filepath", "path"),
    "patient": ("patient", "patientid", "patientname", "case", "caseid", "subject", "subjectid", "donor"),
    "group": ("group", "groupid"),
    "slide": ("slide", "slideid", "wsi"),
    "well": ("well", "wellid"),
    "acquisition": ("acquisition", "acquisitionid", "plate", "plateid", "batch", "batchid"),
    "split": ("split", "set", "subset", "partition"),
    "class": ("class", "classname", "category", "celltype"),
    "pixel_size": ("pixelsize", "pixelsizeum", "mpp", "micronsperpixel", "umperpixel"),
}
DELIMITERS = (",", ";", "\t")
MAX_ROWS = 10_000_000
# Number of images without a row that a warning names.
NAMED = 3


def read_table(path: Path, keys: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Reads the fields of each image in the table.

    Headers are compared without case, spaces and punctuation, and have the usual synonyms, see `HEADERS`. The
    delimiter is a comma, a semicolon or a tab. Names of images are compared without suffix and case where no
    image has the very name. A warning names images without a row.

    Args:
      path: a CSV file in UTF-8 with a column `image`: paths relative to the folder of the images, or names of
        files, with or without suffix.
      keys: path of each image, by its key.

    Returns:
      Fields by name, as in `FIELDS`, of each key in the table; empty ones are left out.

    Raises:
      InputError: if the table cannot be read, has no column that is known, names no image, or contradicts
        itself.
    """
    images = _Index(keys)
    # How exactly its row names the image, see `_Index.find`, and its fields.
    known: dict[str, tuple[int, dict[str, str]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            header = lines.readline()
            delimiter = _delimiter(header)
            columns = _columns(path, next(csv.reader([header], delimiter=delimiter), []))
            for number, row in enumerate(csv.reader(lines, delimiter=delimiter), start=2):
                if number > MAX_ROWS:
                    raise InputError(f"{path} has more than {MAX_ROWS} rows: give the table of these images")
                values = {name: row[index].strip() for name, index in columns.items() if index < len(row)}
                word = values.pop("image", "").replace("\\", "/").removeprefix("./")
                inexactness, matches = images.find(word)
                if len(matches) > 1:
                    raise InputError(
                        f"{path}, row {number}: {word!r} may be {matches[0]} or {matches[1]}; give the path"
                    )
                if not matches:
                    continue  # tables often list more images than a folder holds
                fields = {name: value for name, value in values.items() if value}
                if delimiter == ";" and "pixel_size" in fields:  # written with decimal commas
                    fields["pixel_size"] = fields["pixel_size"].replace(",", ".")
                before = known.get(matches[0])
                if before is not None and before[0] == inexactness and before[1] != fields:
                    raise InputError(f"{path}, row {number}: {word!r} had other values in an earlier row")
                if before is None or inexactness < before[0]:
                    known[matches[0]] = inexactness, fields
    except OSError as error:
        raise unreadable(f"--metadata={path}", error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"--metadata={path} cannot be read as CSV ({error}); save it as CSV in UTF-8"
        ) from error
    if not known:
        raise InputError(
            f"{path} names none of the {len(keys)} images, such as {next(iter(keys))}: its column `image`"
            " holds paths relative to --images"
        )
    if missing := [key for key in keys if key not in known]:
        logging.warning(
            "%s has no row for %d of %d images, such as %s: they get no patient, class or pixel size",
            *(path, len(missing), len(keys), ", ".join(missing[:NAMED])),
        )
    return {key: fields for key, (_, fields) in known.items()}


class _Index:
    """Images by what a row may call them.

    Each level is less exact than the one before: the path and the name of the file as they are, then without
    suffix, then without case, too.

    Args:
      keys: path of each image, by its key.
    """

    def __init__(self, keys: Mapping[str, Path]) -> None:
        self._levels: list[dict[str, list[str]]] = [{} for _ in range(6)]
        for key, file in keys.items():
            name = Path(key).name
            words: list[set[str]] = [{key, f"{key}{file.suffix}"}, {name, file.name}]
            words += [{key}, {name}, {key.casefold()}, {name.casefold()}]
            for level, of_level in zip(self._levels, words, strict=True):
                for word in of_level:
                    level.setdefault(unicodedata.normalize("NFC", word), []).append(key)

    def find(self, word: str) -> tuple[int, list[str]]:
        """Returns the keys of the images that a word may mean, and how inexactly.

        The number is 0 for the name or path of the file, 1 without suffix, 2 without case, 3 for no image.
        """
        word = unicodedata.normalize("NFC", word)
        stem = word.removesuffix(suffix) if (suffix := Path(word).suffix).lower() in SUFFIXES else word
        words = (word, word, stem, stem, *(2 * (unicodedata.normalize("NFC", stem.casefold()),)))
        for number, (level, text) in enumerate(zip(self._levels, words, strict=True)):
            if text in level:
                return number // 2, level[text]
        return len(words) // 2, []


def find_groups(fields: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Returns the group of each image that has one: the value of its first column of `GROUPS`.

    Where the first column of one image is a later one of others, as the slide of an image without patient,
    all of them are one group: they may be of one patient.

    Args:
      fields: fields by name of each image, by its key.

    >>> find_groups({"a": {"patient": "p", "slide": "1"}, "b": {"slide": "1"}, "c": {"slide": "2"}})
    {'a': 'p', 'b': 'p', 'c': '2'}
    """
    own = {
        key: next((name, values[name]) for name in GROUPS if name in values)
        for key, values in fields.items()
        if not values.keys().isdisjoint(GROUPS)
    }
    # A forest: each pair of column and value leads to a wider one of the same group, or to itself.
    wider = {pair: pair for pair in own.values()}

    def root(pair: tuple[str, str]) -> tuple[str, str]:
        while wider[pair] != pair:
            wider[pair] = pair = wider[wider[pair]]
        return pair

    for key in own:
        roots = {root(pair) for pair in fields[key].items() if pair in wider}
        widest = min(roots, key=lambda pair: (GROUPS.index(pair[0]), pair[1]))
        wider.update(dict.fromkeys(roots, widest))
    return {key: root(pair)[1] for key, pair in own.items()}


def _delimiter(header: str) -> str:
    """Returns the delimiter that gives the most known columns; of equal ones the first."""
    return max(
        DELIMITERS,
        key=lambda delimiter: sum(
            _field(name) is not None for name in next(csv.reader([header], delimiter=delimiter), [])
        ),
    )


def _field(header: str) -> str | None:
    """Returns the field of a header, None if it is unknown."""
    word = re.sub(r"[\W_]", "", header.casefold())
    return next((field for field, words in HEADERS.items() if word in words), None)


def _columns(path: Path, headers: list[str]) -> dict[str, int]:
    """Returns the index of each known column."""
    columns: dict[str, int] = {}
    for index, header in enumerate(headers):
        field = _field(header)
        if field is None:
            continue
        if field in columns:
            raise InputError(
                f"{path} has two columns for `{field}`, {headers[columns[field]].strip()!r} and"
                f" {header.strip()!r}: leave one of them out"
            )
        columns[field] = index
    unknown = [header.strip() for header in headers if _field(header) is None]
    if "image" not in columns:
        raise InputError(f"{path} needs a column `image`; its columns are {', '.join(unknown) or 'none'}")
    if len(columns) == 1:
        raise InputError(
            f"{path} has no column beside `image` that is known ({', '.join(unknown) or 'none'}): name them"
            f" {', '.join(FIELDS)}, or leave --metadata out"
        )
    if unknown:
        logging.warning("%s: columns that are not used: %s", path, ", ".join(unknown))
    return columns
