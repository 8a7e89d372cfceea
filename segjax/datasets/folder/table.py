"""Reads the table of the images: patient, split, class and pixel size of each."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from absl import logging

from segjax.data.readers import unreadable
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


def read_table(path: Path, keys: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Reads the fields of each image in the table.

    Headers are compared without case, spaces and punctuation, and have the usual synonyms, see `HEADERS`. The
    delimiter is a comma, a semicolon or a tab.

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
    by_word: dict[str, list[str]] = {}
    for key, file in keys.items():
        for word in {key, f"{key}{file.suffix}", Path(key).name, file.name}:
            by_word.setdefault(unicodedata.normalize("NFC", word), []).append(key)
    known: dict[str, dict[str, str]] = {}
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
                matches = by_word.get(unicodedata.normalize("NFC", word), [])
                if len(matches) > 1:
                    raise InputError(
                        f"{path}, row {number}: {word!r} may be {matches[0]} or {matches[1]}; give the path"
                    )
                if not matches:
                    continue  # tables often list more images than a folder holds
                fields = {name: value for name, value in values.items() if value}
                if delimiter == ";" and "pixel_size" in fields:  # written with decimal commas
                    fields["pixel_size"] = fields["pixel_size"].replace(",", ".")
                if known.get(matches[0], fields) != fields:
                    raise InputError(f"{path}, row {number}: {word!r} had other values in an earlier row")
                known[matches[0]] = fields
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
    return known


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
