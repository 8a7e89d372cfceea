"""Lists the images of a folder, with patient, split, class and pixel size from a table or the file names."""

from __future__ import annotations

import dataclasses
import glob
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from absl import logging

from segjax.data.readers import SUFFIXES
from segjax.datasets.folder.table import FIELDS, find_groups, read_table
from segjax.datasets.formats import SUFFIXES as MASK_SUFFIXES
from segjax.datasets.formats import annotations_among
from segjax.datasets.formats.layout import is_below
from segjax.errors import InputError
from segjax.files import HIDDEN, walk

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Images of microscopes, scanners and cameras that are not read.
OTHER_SUFFIXES = (
    *(".czi", ".dcm", ".dv", ".h5", ".hdf5", ".ics", ".ids", ".ims", ".lif", ".lsm", ".mrc", ".nd2", ".oib"),
    *(".oif", ".oir", ".sld", ".stk", ".vsi", ".zvi", ".bif", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide"),
    *(".avif", ".dng", ".gif", ".heic", ".jfif", ".jp2", ".jxl", ".pbm", ".pgm", ".ppm", ".psd", ".tga"),
)


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
        wildcard is the folder. Brackets are wildcards only if no file or folder has this name.
      metadata: table with a column `image` and any of `FIELDS`, see `read_table`.
      pattern: pattern of the key, such as `{patient}_{slide}_{}`, with names from `FIELDS`; `{}` matches any
        text. Values of the table take precedence.
      without: files and folders to ignore, such as that of the masks.
      among_masks: whether masks are in the same folders; files named as masks are ignored. What Cellpose
        writes beside an image is always ignored.

    Returns:
      The folder, and its images sorted by key.

    Raises:
      InputError: if there is no image, two images have one name, or the table or the pattern does not match.
    """
    root, files = _find(str(images), {Path(folder).resolve() for folder in without})
    key_by_path = {path: path.relative_to(root).with_suffix("").as_posix() for path in files}
    annotations = annotations_among(set(key_by_path.values()), MASK_SUFFIXES if among_masks else ())
    keys: dict[str, Path] = {}
    names: dict[str, Path] = {}
    for path, key in key_by_path.items():
        if key in annotations:
            continue
        for taken, what in ((keys, key), (names, key.replace("/", "_"))):
            if what in taken:
                raise InputError(f"{taken[what]} and {path} would have the same name {what!r}: rename one")
            taken[what] = path
    known = {} if metadata is None else read_table(Path(metadata), keys)
    by_name = {} if pattern is None else _match(pattern, keys)
    fields = {key: {**by_name.get(key, {}), **known.get(key, {})} for key in sorted(keys)}
    groups = find_groups(fields)
    return root, [_item(key, keys[key], fields[key], groups.get(key)) for key in fields]


def root_of(images: str | Path) -> Path:
    """Returns the folder of the images; of a file pattern the part before the first wildcard."""
    return _split(Path(images))[0]


def _split(images: Path) -> tuple[Path, str]:
    """Returns the folder, and the pattern of the files in it, "." for all.

    A part with brackets is a name if a file or folder has it, and else a pattern.
    """
    root = next(root for root in (images, *images.parents) if root.exists() or not glob.has_magic(str(root)))
    return root, str(images.relative_to(root))


def _find(images: str, without: set[Path]) -> tuple[Path, list[Path]]:
    root, pattern = _split(Path(images))
    if not root.is_dir():
        raise InputError(f"--images={root} is not a folder; give one that holds images")
    # Below the first wildcard, too, brackets may belong to names.
    patterns = [pattern, pattern.replace("[", "[[]")]
    paths = walk(root) if pattern == "." else {path for one in patterns for path in root.glob(one)}
    pictures = [
        path
        for path in paths
        if path.suffix.lower() in (*SUFFIXES, *OTHER_SUFFIXES)
        and path.is_file()
        and not any(part.startswith(HIDDEN) for part in path.relative_to(root).parts)
        and not is_below(path.resolve(), without)
    ]
    files = [path for path in pictures if path.suffix.lower() in SUFFIXES]
    others = Counter(suffix for path in pictures if (suffix := path.suffix.lower()) in OTHER_SUFFIXES)
    named = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    if not files:
        what = f"no image but {named}, which are not read: save them as TIFF" if others else "no image"
        raise InputError(f"--images={images} holds {what}; files end in {', '.join(SUFFIXES)}")
    if others:
        logging.warning("--images=%s: files that are not read: %s; save them as TIFF", images, named)
    return root, sorted(files)


def _match(pattern: str, keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Returns the fields that the pattern matches in each key."""
    first, *rest = re.split(r"\{([^}]*)\}", pattern)
    expression, names = re.escape(first), []
    for name, literal in zip(rest[::2], rest[1::2], strict=True):
        if not name:
            expression += ".*?"
        elif name not in FIELDS:
            raise InputError(f"--pattern={pattern} names {name!r}: choose among {', '.join(FIELDS)}")
        else:
            # A name that occurs twice must match the same text twice.
            expression += f"(?P={name})" if name in names else f"(?P<{name}>[^/]+?)"
            names.append(name)
        expression += re.escape(literal)
    fields = {}
    for key in keys:
        match = re.fullmatch(expression, key)
        if match is None:
            raise InputError(f"--pattern={pattern} does not fit the image {key!r}: {{}} stands for any text")
        fields[key] = match.groupdict()
    return fields


def _item(key: str, path: Path, fields: Mapping[str, str], group: str | None) -> ImageFile:
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
        group=group,
        split=None if split is None else SPLITS[split.lower()],
        class_name=fields.get("class"),
        pixel_size=pixel_size,
    )
