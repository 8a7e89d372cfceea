"""Lists and reads the images that a prediction segments, and states which files it leaves out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.data.channels import match_channels, select_channels
from segjax.data.readers import SUFFIXES, read_image
from segjax.data.readers.lazy import is_lazy_image, is_lazy_only
from segjax.datasets.formats import annotations_among
from segjax.datasets.formats.layout import absolute, is_below
from segjax.errors import InputError
from segjax.experiment.prediction_tables import COMMON
from segjax.experiment.prediction_view import View
from segjax.experiment.prepare_inputs import written_by_prepare
from segjax.files import CHUNKED, printable, walk
from segjax.inference.exports.marks import BY_STEM, is_result, result_path

RESULTS, MASKS = "written by segjax predict", "named as masks of other images"
PREPARED = "written by segjax prepare"


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files become images.

    Attributes:
      channels: the channels to use, in this order; all if empty.
      channel_axis: axis of the channels in a stack that does not name its axes, see `read_image`.
      planes: name of each axis of a stack along which one plane is chosen, and its index, see `choose_plane`.
      view: the resolution and the region that are segmented.
    """

    channels: tuple[int, ...] = ()
    channel_axis: int | None = None
    planes: tuple[tuple[str, int], ...] = ()
    view: View = View()

    @property
    def opening(self) -> dict[str, Any]:
        """The arguments of `read_image` and `open_lazily`."""
        return {"channel_axis": self.channel_axis, "planes": dict(self.planes)}

    def read(self, path: Path, channels: int | None) -> np.ndarray:
        """Returns the image [H, W, C], with C = `channels` if that is not None, see `match_channels`."""
        try:
            image = read_image(path, **self.opening)
        except InputError as error:
            raise with_flags(error, path) from error
        if self.channels:
            image = select_channels(image, self.channels, name=str(path))
        return match_channels(image, channels, name=str(path))


def with_flags(error: InputError, path: Path) -> InputError:
    """Adds the flags that choose a plane or a series to the error of a stack."""
    if error.kind != "unclear_axes":
        return error
    flags = "--axis=Z=3 takes plane 3 of axis Z, --channel_axis=0 takes axis 0 as channels"
    if not is_lazy_only(path):
        flags += ", --frames tracks cells over the images of a stack, --stack makes cells in 3-D"
    return InputError(f"{error} ({flags})", kind=error.kind)


class Inputs(NamedTuple):
    """The images of a prediction.

    Attributes:
      root: the folder that contains them.
      images: image files by their path relative to the root without suffix, with "/" between parts.
      left_out: number of files that are left out, by the reason.
      unreadable: the reason for each subfolder that cannot be read.
    """

    root: Path
    images: dict[str, Path]
    left_out: Counter[str]
    unreadable: dict[Path, str]

    def name(self, path: Path) -> str:
        """Returns the path of an image relative to the root."""
        return printable(path.relative_to(self.root).as_posix())


def find_inputs(images: Path, out: Path) -> Inputs:
    """Lists an image, or the images of a folder and its subfolders, sorted by name.

    Files whose name starts with a dot are ignored.

    Args:
      images: a folder or one image.
      out: the folder of results. A file that the prediction would write there is not an input.

    Raises:
      InputError: if there is no image, or two images would have the same results.
    """
    if images.is_file() or (images.is_dir() and is_lazy_only(images)):
        if is_result(images):
            raise InputError(f"--images={images} is a result of segjax predict: give the image itself")
        return Inputs(images.parent, {images.stem: images}, Counter(), {})
    if not images.is_dir():
        raise InputError(f"--images={images} is neither a folder nor an image ({', '.join(SUFFIXES)})")
    left_out: Counter[str] = Counter()
    unreadable: dict[Path, str] = {}

    def note(error: OSError) -> None:
        if Path(error.filename) == images:
            raise InputError(f"--images={images} cannot be read ({error.strerror})") from error
        unreadable[Path(error.filename)] = f"{error.filename} cannot be read ({error.strerror})"

    files = sorted(path for path in walk(images, note) if not path.is_dir() or path.suffix.lower() in CHUNKED)
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES or is_lazy_image(path)]
    written = {
        absolute(result_path(pattern, out / picture.relative_to(images).with_suffix("")))
        for picture in pictures
        for pattern in BY_STEM
    } | {absolute(out / name) for name in COMMON}
    reports = frozenset(written_by_prepare([images]))
    left = {path: PREPARED for path in files if is_below(absolute(path), reports)}
    left |= {path: RESULTS for path in files if absolute(path) in written or is_result(path)}
    keys = {
        path: path.relative_to(images).with_suffix("").as_posix() for path in pictures if path not in left
    }
    annotations = annotations_among(set(keys.values()))
    by_key: dict[str, Path] = {}
    for path in files:
        if path in left:
            left_out[left[path]] += 1
        elif path not in keys:
            left_out[f"of type {path.suffix.lower()}" if path.suffix else "without a type"] += 1
        elif keys[path] in annotations:
            left_out[MASKS] += 1
        elif keys[path] in by_key:
            raise InputError(f"{by_key[keys[path]]} and {path} would have the same results: rename one")
        else:
            by_key[keys[path]] = path
    if not by_key:
        raise InputError(
            f"--images={images} holds no image; files end in {', '.join(SUFFIXES)}{describe(left_out)}"
        )
    return Inputs(images, by_key, +left_out, unreadable)


def frame_numbers(keys: Iterable[str]) -> dict[str, int]:
    """Returns the number of each image among those of its folder, from 0.

    >>> frame_numbers(["a", "b", "c/a"])
    {'a': 0, 'b': 1, 'c/a': 0}
    """
    counts: Counter[str] = Counter()
    numbers = {}
    for key in keys:
        folder = key.rpartition("/")[0]
        numbers[key] = counts[folder]
        counts[folder] += 1
    return numbers


def describe(left_out: Counter[str]) -> str:
    """Returns what is left out, with a leading semicolon; "" if nothing is.

    >>> describe(Counter({"of type .czi": 2, RESULTS: 3}))
    '; 5 files left out: 3 written by segjax predict, 2 of type .czi (save images as TIFF or PNG)'
    """
    if not left_out.total():
        return ""
    reasons = ", ".join(f"{number} {reason}" for reason, number in left_out.most_common() if number)
    has_other_types = any(reason.startswith("of type") for reason in left_out)
    remedy = " (save images as TIFF or PNG)" if has_other_types else ""
    return f"; {number_of(left_out.total(), 'file')} left out: {reasons}{remedy}"


def number_of(count: int, noun: str) -> str:
    """Returns "1 image", "2 images", ..."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
