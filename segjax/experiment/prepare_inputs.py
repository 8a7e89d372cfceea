"""The request of `segjax prepare` and its files, checked before the first image is read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from segjax.datasets import splits
from segjax.datasets.checks.findings import KINDS
from segjax.datasets.folder import NAME
from segjax.datasets.folder.image_files import ImageFile, list_items, root_of
from segjax.datasets.formats import Annotations, open_annotations
from segjax.datasets.formats.layout import absolute, is_below
from segjax.errors import InputError
from segjax.experiment.prediction_tables import PREDICTIONS
from segjax.files import walk
from segjax.inference.exports.marks import is_result

SPLITS = ("train", "validation", "test")
REPORT, STAGING, DOWNLOADS = "report", "staging", "downloads"
# Written last into the output folder; records the request and its inputs.
MARK = "preparation.json"


@dataclasses.dataclass(frozen=True)
class Request:
    """Settings of `segjax prepare`; each field is one of its flags. `~` in paths is the home folder."""

    images: str
    masks: str
    out: str
    mask_format: str = "auto"
    metadata: str | None = None
    pattern: str | None = None
    classes: tuple[str, ...] = ()
    channel_axis: int | None = None
    axis: tuple[tuple[str, int], ...] = ()
    fractions: tuple[float, ...] = (0.7, 0.15, 0.15)
    split_by: Literal["group", "image"] = "group"
    folds: int | None = None
    seed: int = 0
    accept: tuple[str, ...] = ()
    crowds: str = "ignore"

    def __post_init__(self) -> None:
        for name in ("images", "masks", "out", "metadata"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, os.path.expanduser(path))

    @property
    def key(self) -> dict[str, Any]:
        """The request as JSON returns it, without the output folder."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name != "out"}
        return json.loads(json.dumps(fields))

    @property
    def split_fractions(self) -> dict[str, float]:
        """The fraction of each split."""
        return dict(zip(SPLITS, self.fractions, strict=True))


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The files of a request.

    Attributes:
      root: folder of the images.
      items: all images, sorted by key.
      masks: file or folder of the masks.
      annotations: the opened masks.
      class_names: background first.
      written: what an earlier preparation has written, files and folders.
      options: keyword arguments of `open_annotations` on which the content of the masks depends.
    """

    root: Path
    items: Sequence[ImageFile]
    masks: Path
    annotations: Annotations
    class_names: tuple[str, ...]
    written: tuple[Path, ...]
    options: Mapping[str, Any]

    @cached_property
    def annotations_digest(self) -> str:
        """Digest of the files of the masks, and of the options with which they were opened."""
        content = repr((self.state["annotations"], sorted(self.options.items())))
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def state(self) -> dict[str, str]:
        """Digests of sizes and modification times, which change with the files."""
        images = [(dataclasses.replace(item, path=Path()), *_stat(item.path)) for item in self.items]
        paths = [self.masks] if self.masks.is_file() else sorted(self._mask_files())
        annotations = [(str(path), *_stat(path)) for path in paths]
        return {
            name: hashlib.sha256(repr(value).encode()).hexdigest()
            for name, value in (("images", images), ("annotations", annotations))
        }

    def _mask_files(self) -> Iterator[Path]:
        written = frozenset(self.written)
        for path in walk(self.masks):
            if path.is_file() and not is_below(absolute(path), written):
                yield path


def open_inputs(request: Request) -> Inputs:
    """Validates a request, lists its images and opens its masks.

    Raises:
      InputError: if the request is invalid, or a folder cannot be read.
    """
    if unknown := sorted(set(request.accept) - set(KINDS)):
        raise InputError(f"--accept={unknown[0]} is unknown: choose among {', '.join(KINDS)}")
    if len(request.fractions) != len(SPLITS):
        raise InputError(
            f"--fractions has {len(request.fractions)} numbers, not one for each of {', '.join(SPLITS)}"
        )
    splits.targets(request.split_fractions, request.folds)
    masks, folder = Path(request.masks), root_of(request.images).resolve()
    for path in (folder, masks):
        _check_readable(path)
    among_masks = folder.is_relative_to(masks.resolve())
    written = written_by_prepare([folder, masks], Path(request.out))
    # A folder that holds only masks may hold predictions that the user has chosen as masks.
    predicted = _predicted(masks if among_masks else folder)
    root, items = list_items(
        request.images,
        metadata=request.metadata,
        pattern=request.pattern,
        # Masks in a folder below that of the images are not images, nor is what the preparation writes.
        without=[*written, *predicted, *([] if among_masks else [masks])],
        among_masks=among_masks,
    )
    if among_masks:
        written += predicted
    options: dict[str, Any] = {
        "format": request.mask_format,
        "class_names": ("background", *request.classes) if request.classes else None,
        "images": {item.key: item.path for item in items},
        "crowds_are_cells": request.crowds == "cells",
        "planes": dict(request.axis),
    }
    annotations = open_annotations(request.masks, **options, without=written)
    class_names = _class_names(request, annotations, items)
    return Inputs(root, items, masks, annotations, class_names, written, options)


def _check_readable(folder: Path) -> None:
    """Raises if a subfolder cannot be read: its files would be missing without a word."""

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise InputError(
                f"{error.filename} cannot be read ({error.strerror}): change its permissions, or move it"
                " elsewhere"
            ) from error

    for _ in walk(folder, refuse):
        pass


def written_by_prepare(roots: Iterable[Path], out: Path | None = None) -> tuple[Path, ...]:
    """Returns the files and folders of earlier preparations in any folder below the roots, and in `out`.

    The preparation into `out` may not have finished. The user may have folders of the same names, so each
    must have a file that proves it.
    """
    signs = {
        REPORT: "quality.json",
        STAGING: "*.npz",
        DOWNLOADS: f"{NAME}.lock",
        NAME: "*/dataset_info.json",
    }
    written = []
    # One that made no data set leaves a report.
    depths = {f"/{MARK}": 0, f"/{REPORT}/{signs[REPORT]}": 1}
    folders = {
        absolute(path.parents[depth])
        for root in roots
        for path in walk(root)
        for end, depth in depths.items()
        if path.as_posix().endswith(end)
    }
    for folder in folders | ({absolute(out)} if out else set()):
        written.append(folder / MARK)
        written += [
            folder / name
            for name, sign in signs.items()
            if next((folder / name).glob(sign), None) is not None
        ]
    return tuple(written)


def _predicted(root: Path) -> tuple[Path, ...]:
    """Returns the results of `segjax predict` below a folder that are known as annotations or images."""
    results = [absolute(path) for path in walk(root) if is_result(path)]
    folders = {folder for path in results for folder in path.parents if folder.is_relative_to(absolute(root))}
    return (*results, *(folder / PREDICTIONS for folder in folders))


def _class_names(request: Request, annotations: Annotations, items: Sequence[ImageFile]) -> tuple[str, ...]:
    """Returns the classes of the annotations, unless the table gives each image a class."""
    image_classes = sorted({item.class_name for item in items if item.class_name is not None})
    if not image_classes:
        return tuple(annotations.class_names)
    names = ("background", *(request.classes or image_classes))
    if missing := sorted(set(image_classes) - set(names)):
        raise InputError(f"the class {missing[0]!r} of an image is not among --classes={','.join(names[1:])}")
    return names


def _stat(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
