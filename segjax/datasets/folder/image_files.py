"""A user's folder of images, and what a table or their names say: patient, split, class, pixel size."""

from __future__ import annotations

import csv
import dataclasses
import glob
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from segjax.data.readers import SUFFIXES
from segjax.datasets.formats import without_masks
from segjax.errors import InputError

# What must not be torn apart by a split, the widest first: the first that is known is the group of an image.
GROUPS = ("patient", "group", "slide", "well", "acquisition")
FIELDS = (*GROUPS, "split", "class", "pixel_size")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
MAX_ROWS = 10_000_000


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image of a folder, not read yet.

    Attributes:
      key: its path relative to the folder, without suffix, parts divided by "/".
      path: of the file.
      group: what must not be torn apart by a split, None where nothing is known.
      split: that the user gave, None where it is to be drawn.
      class_name: of all its instances, None where the annotation says it.
      pixel_size: side of a pixel in micrometres, None where the user gave none.
    """

    key: str
    path: Path
    group: str | None = None
    split: str | None = None
    class_name: str | None = None
    pixel_size: float | None = None

    @property
    def name(self) -> str:
        """The key as a name for files."""
        return self.key.replace("/", "_")


def list_items(
    images: str | Path,
    *,
    metadata: str | Path | None = None,
    pattern: str | None = None,
    without: Iterable[Path] = (),
    among_masks: bool = False,
) -> tuple[Path, list[ImageFile]]:
    """Lists the images of a folder and of all folders in it.

    Args:
      images: a folder, or a pattern of files such as `set/*/images/*.png`, whose part before the first
        wildcard is the folder.
      metadata: CSV with a column `image` (path relative to the folder or name of the file, with or without
        suffix; unique) and any of `FIELDS`; other columns are left alone.
      pattern: of the key, such as `{patient}_{slide}_{}`, with names from `FIELDS`; `{}` is any text. Its
        values count where the table has none.
      without: folders in which images are not looked for, such as that of the masks.
      among_masks: whether masks lie in the same folders; what is one by its name is left out.

    Returns:
      The folder, and its images sorted by key.

    Raises:
      InputError: if there is no image, two have one name, or the table or the pattern do not fit them.
    """
    root, files = _find(str(images), [Path(folder).resolve() for folder in without])
    keys: dict[str, Path] = {}
    names: dict[str, Path] = {}
    for path in files:
        key = path.relative_to(root).with_suffix("").as_posix()
        for taken, what in ((keys, key), (names, key.replace("/", "_"))):
            if what in taken:
                raise InputError(f"{taken[what]} and {path} would have the same name {what!r}: rename one")
            taken[what] = path
    if among_masks:
        keys = without_masks(keys)
    known = {} if metadata is None else _read_table(Path(metadata), keys)
    by_name = {} if pattern is None else _match(pattern, keys)
    items = []
    for key in sorted(keys):
        fields = {**by_name.get(key, {}), **known.get(key, {})}
        items.append(_item(key, keys[key], fields))
    return root, items


def root_of(images: str | Path) -> Path:
    """The folder that `list_items` looks through: of a pattern, the part before the first wildcard."""
    parts = Path(images).parts
    magic = next((index for index, part in enumerate(parts) if glob.has_magic(part)), None)
    return Path(images) if magic is None else Path(*parts[:magic])


def _find(images: str, without: list[Path]) -> tuple[Path, list[Path]]:
    root = root_of(images)
    if not root.is_dir():
        raise InputError(f"--images={root} is not a folder; give one that holds images")
    pattern = str(Path(images).relative_to(root))
    found = list(root.rglob("*") if pattern == "." else root.glob(pattern))
    files = [
        path
        for path in found
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        # Dot files and __MACOSX are what macOS leaves next to what it copies.
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(root).parts)
        and not any(path.resolve().is_relative_to(folder) for folder in without)
    ]
    if not files:
        raise InputError(f"--images={images} holds no image; files end in {', '.join(SUFFIXES)}")
    return root, sorted(files)


def _read_table(path: Path, keys: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """The fields of each image that the table knows."""
    by_word: dict[str, list[str]] = {}
    for key, file in keys.items():
        for word in {key, f"{key}{file.suffix}", Path(key).name, file.name}:
            by_word.setdefault(word, []).append(key)
    known: dict[str, dict[str, str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            if "image" not in (rows.fieldnames or ()):
                has = ", ".join(rows.fieldnames or ()) or "none"
                raise InputError(f"{path} needs a column `image`; its columns are {has}")
            for number, row in enumerate(rows, start=2):
                if number > MAX_ROWS:
                    raise InputError(f"{path} has more than {MAX_ROWS} rows: give the table of these images")
                word = (row["image"] or "").strip()
                found = by_word.get(word.removeprefix("./"), [])
                if len(found) > 1:
                    raise InputError(
                        f"{path}, row {number}: {word!r} may be {found[0]} or {found[1]}; give the path"
                    )
                if not found:
                    continue  # tables often know of more images than a folder holds
                fields = {name: (row.get(name) or "").strip() for name in FIELDS}
                fields = {name: value for name, value in fields.items() if value}
                if known.get(found[0], fields) != fields:
                    raise InputError(f"{path}, row {number}: {word!r} had other values in an earlier row")
                known[found[0]] = fields
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--metadata={path} cannot be read as CSV ({error})") from error
    if not known:
        raise InputError(
            f"{path} names none of the {len(keys)} images, such as {next(iter(keys))}: its column `image`"
            " holds paths relative to --images"
        )
    return known


def _match(pattern: str, keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """The fields that the pattern finds in each key."""
    expression, names = "", []
    for literal, name in re.findall(r"([^{]*)(?:\{([^}]*)\})?", pattern):
        expression += re.escape(literal)
        if name:
            if name not in FIELDS:
                raise InputError(f"--pattern={pattern} names {name!r}: choose among {', '.join(FIELDS)}")
            # A name that comes twice has to have the same value twice.
            expression += f"(?P={name})" if name in names else f"(?P<{name}>[^/]+?)"
            names.append(name)
        elif f"{literal}{{}}" in pattern:
            expression += ".*?"
    found = {}
    for key in keys:
        match = re.fullmatch(expression, key)
        if match is None:
            raise InputError(f"--pattern={pattern} does not fit the image {key!r}: {{}} stands for any text")
        found[key] = match.groupdict()
    return found


def _item(key: str, path: Path, fields: Mapping[str, str]) -> ImageFile:
    split = fields.get("split")
    if split is not None and split.lower() not in SPLITS:
        raise InputError(f"{key} has the split {split!r}: choose one of {', '.join(SPLITS)}")
    pixel_size = None
    if "pixel_size" in fields:
        try:
            pixel_size = float(fields["pixel_size"])
        except ValueError:
            pixel_size = math.nan
        if not 0 < pixel_size < math.inf:
            raise InputError(f"{key} has the pixel_size {fields['pixel_size']!r}: give micrometres, above 0")
    return ImageFile(
        key,
        path,
        group=next((fields[name] for name in GROUPS if name in fields), None),
        split=None if split is None else SPLITS[split.lower()],
        class_name=fields.get("class"),
        pixel_size=pixel_size,
    )
