"""Lists the images of a folder, with patient, split, class and pixel size from a table or the file names."""

from __future__ import annotations

import dataclasses
import glob
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from segjax.data.readers import SUFFIXES
from segjax.datasets.folder.table import FIELDS, GROUPS, read_table
from segjax.datasets.formats import without_masks
from segjax.errors import InputError

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image of a folder, not read yet.

    Attributes:
      key: its path relative to the folder, without suffix, parts divided by "/".
      path: path of the file.
      group: images of one group stay in one split; None if unknown.
      split: the split chosen by the user, None if it is to be assigned.
      class_name: class of all instances, None if the annotation has classes.
      pixel_size: side of a pixel in micrometres, None if the table has none.
    """

    key: str
    path: Path
    group: str | None = None
    split: str | None = None
    class_name: str | None = None
    pixel_size: float | None = None

    @property
    def name(self) -> str:
        """The key as a valid file name."""
        return self.key.replace("/", "_")


def list_items(
    images: str | Path,
    *,
    metadata: str | Path | None = None,
    pattern: str | None = None,
    without: Iterable[Path] = (),
    among_masks: bool = False,
) -> tuple[Path, list[ImageFile]]:
    """Lists the images of a folder and its subfolders.

    Args:
      images: a folder, or a pattern of files such as `set/*/images/*.png`, whose part before the first
        wildcard is the folder.
      metadata: table with a column `image` and any of `FIELDS`, see `read_table`.
      pattern: pattern of the key, such as `{patient}_{slide}_{}`, with names from `FIELDS`; `{}` matches any
        text. Values of the table take precedence.
      without: folders to ignore, such as that of the masks.
      among_masks: whether masks are in the same folders; files named as masks are ignored.

    Returns:
      The folder, and its images sorted by key.

    Raises:
      InputError: if there is no image, two images have one name, or the table or the pattern does not match.
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
    known = {} if metadata is None else read_table(Path(metadata), keys)
    by_name = {} if pattern is None else _match(pattern, keys)
    items = []
    for key in sorted(keys):
        fields = {**by_name.get(key, {}), **known.get(key, {})}
        items.append(_item(key, keys[key], fields))
    return root, items


def root_of(images: str | Path) -> Path:
    """Returns the folder of the images; of a file pattern the part before the first wildcard."""
    parts = Path(images).parts
    magic = next((index for index, part in enumerate(parts) if glob.has_magic(part)), None)
    return Path(images) if magic is None else Path(*parts[:magic])


def _find(images: str, without: list[Path]) -> tuple[Path, list[Path]]:
    root = root_of(images)
    if not root.is_dir():
        raise InputError(f"--images={root} is not a folder; give one that holds images")
    pattern = str(Path(images).relative_to(root))
    paths = list(root.rglob("*") if pattern == "." else root.glob(pattern))
    files = [
        path
        for path in paths
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        # macOS leaves dot files and __MACOSX next to the files it copies.
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(root).parts)
        and not any(path.resolve().is_relative_to(folder) for folder in without)
    ]
    if not files:
        raise InputError(f"--images={images} holds no image; files end in {', '.join(SUFFIXES)}")
    return root, sorted(files)


def _match(pattern: str, keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Returns the fields that the pattern matches in each key."""
    expression, names = "", []
    for literal, name in re.findall(r"([^{]*)(?:\{([^}]*)\})?", pattern):
        expression += re.escape(literal)
        if name:
            if name not in FIELDS:
                raise InputError(f"--pattern={pattern} names {name!r}: choose among {', '.join(FIELDS)}")
            # A name that occurs twice must match the same text twice.
            expression += f"(?P={name})" if name in names else f"(?P<{name}>[^/]+?)"
            names.append(name)
        elif f"{literal}{{}}" in pattern:
            expression += ".*?"
    fields = {}
    for key in keys:
        match = re.fullmatch(expression, key)
        if match is None:
            raise InputError(f"--pattern={pattern} does not fit the image {key!r}: {{}} stands for any text")
        fields[key] = match.groupdict()
    return fields


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
