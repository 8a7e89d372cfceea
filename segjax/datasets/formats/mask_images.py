"""Pictures as annotations: label images, colour pictures, foreground masks, and masks of single instances."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import label as connected_parts

from segjax.data.readers import (
    PILLOW_SUFFIXES,
    SUFFIXES,
    TIFF_SUFFIXES,
    has_palette,
    is_lossy,
    open_picture,
    palette_alpha,
    read_image,
    read_labels,
)
from segjax.datasets.formats.annotation import (
    Annotations,
    RawAnnotation,
    check_shape,
    rasterize_instances,
    read_valid,
)
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.datasets.formats.names import IMAGE_FOLDER, MASK_FOLDERS
from segjax.errors import InputError
from segjax.files import walk
from segjax.segmentation import Cutout, colour_ids

# A JPEG of black and white holds every value in between.
JPEG_THRESHOLD = 128
# A class map with more values holds ids, or blends of classes.
MAX_CLASSES = 64


def open_labels(source: AnnotationSource) -> Annotations:
    """Label images, one for each image; in a palette picture the indices count. Colours are read as ids."""
    return _open_pictures(source, _read_label_ids)


def open_colours(source: AnnotationSource) -> Annotations:
    """Pictures of one colour for each instance on black or transparent; colours count in a palette too."""
    return _open_pictures(source, _read_colour_ids)


def open_binary(source: AnnotationSource) -> Annotations:
    """Foreground masks, one for each image; instances are the 8-connected components."""
    return _open_pictures(source, _read_components)


def open_classes(source: AnnotationSource) -> Annotations:
    """Class maps, one for each image; instances are the 8-connected parts of a class.

    Without names, each value or colour of the files is a class, such as `class 2`. With names, value k is
    class k; if there are as many values as names, they are the classes in ascending order.
    """
    index = source.index(SUFFIXES)
    paths = [path for paths in index.files.values() for path in paths]
    values = sorted(set().union(*(_values(path, source.reading) for path in paths)))
    names = source.class_names
    if names is None:
        is_colour = bool(values) and values[-1] >= 2**16
        written = [f"#{value - 1:06x}" if is_colour else str(value) for value in values or [1]]
        names = ("background", *(f"class {value}" for value in written))
    class_of = dict(zip(values, range(1, len(names)), strict=False))
    if len(values) != len(names) - 1:
        class_of = {value: value for value in range(1, len(names))}
    read_file = partial(_read_classes, class_of=class_of, reading=source.reading)
    return OneFilePerImage(index, names, read_file)


def open_instances(source: AnnotationSource) -> Annotations:
    """A folder of masks for each image, `<key>/*.png`, or as in the Data Science Bowl `<id>/masks/*.png`.

    An empty folder is an image without instances.
    """
    if not source.path.is_dir():
        raise InputError(f"{source.path} is not a folder; instances lie in one folder for each image")
    folders: dict[str, Path] = {}
    for folder in sorted(path for path in walk(source.path) if path.is_dir()):
        has_folders = any(path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
        if not has_folders and not source.is_in_image_folder(folder / "mask"):
            folders[_image_key(source, folder)] = folder
    if not folders:
        raise InputError(
            f"{source.path} holds no folder of masks; instances lie in one folder for each image"
        )
    return Instances(folders, source.names(), source.reading)


@dataclasses.dataclass(frozen=True)
class Instances:
    """A folder of masks for each image, see `Annotations`.

    Attributes:
      folders: folder of the masks of each image, by key.
      class_names: background first.
      reading: keyword arguments of `read_image`.
    """

    folders: Mapping[str, Path]
    class_names: tuple[str, ...]
    reading: Mapping[str, Any]

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of the annotated images."""
        return frozenset(self.folders)

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads one image, see `Annotations`; instances are numbered by file name, the smaller on top."""
        if key not in self.folders:
            raise InputError(
                f"there is no folder of masks for {key}; make one, empty if the image has no cell",
                kind="missing_mask",
            )
        paths = _list_pictures(self.folders[key])

        def read(path: Path) -> Cutout:
            mask = read_foreground(path, **self.reading)
            check_shape(path, mask.shape, shape)
            return Cutout.of(mask)

        masks, invalid = read_valid(paths, read)
        return rasterize_instances(
            masks,
            shape,
            classes=[1] * len(masks),
            files=tuple(map(str, paths or [self.folders[key]])),
            lossy=any(map(is_lossy, paths)),
            invalid=invalid,
        )


def pillow_mode(path: Path) -> str | None:
    """Returns Pillow's mode of a picture that is readable, P for a palette, also of TIFF; None for others."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return "P" if has_palette(path) else None
    if path.suffix.lower() not in PILLOW_SUFFIXES:
        return None
    with open_picture(path) as picture:
        return picture.mode


def read_foreground(path: Path, **reading: Any) -> np.ndarray:
    """Reads a mask of two values, 0 for background; a JPEG is thresholded at 128.

    Args:
      path: the mask.
      **reading: keyword arguments of `read_image`.

    Returns:
      [H, W] bool.

    Raises:
      InputError: if the file holds more values, or two values without 0.
    """
    pixels = read_image(path, **reading).max(axis=-1)
    if is_lossy(path):
        return pixels >= JPEG_THRESHOLD
    values = np.unique(pixels)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(f"{value:g}" for value in values[:4])
        raise InputError(
            f"{path} holds {len(values)} values ({shown}{', ...' if len(values) > 4 else ''}), but a mask has"
            " 0 for background and one other; if these are ids use the format labels, else threshold it",
            kind="invalid_ids",
        )
    return pixels != 0


def _open_pictures(source: AnnotationSource, read: Callable[..., tuple[np.ndarray, bool]]) -> Annotations:
    """Opens one picture for each image; `(path, **reading) -> (labels [H, W], binary)` reads it."""
    read_file = partial(_read_picture, read=partial(read, **source.reading))
    return OneFilePerImage(source.index(SUFFIXES), source.names(), read_file)


def _read_picture(
    path: Path, shape: tuple[int, int], *, read: Callable[[Path], tuple[np.ndarray, bool]]
) -> RawAnnotation:
    labels, binary = read(path)
    check_shape(path, labels.shape, shape)
    return RawAnnotation(labels.astype(np.int32), files=(str(path),), lossy=is_lossy(path), binary=binary)


def _read_classes(
    path: Path, shape: tuple[int, int], *, class_of: Mapping[int, int], reading: Mapping[str, Any]
) -> RawAnnotation:
    values = read_labels(path, **reading)
    check_shape(path, values.shape, shape)
    labels, count = connected_parts(values, background=0, connectivity=2, return_num=True)
    value_by_label = np.zeros(count + 1, np.int64)
    value_by_label[labels.ravel()] = values.ravel()
    present = value_by_label[1:].tolist()
    if unknown := sorted(set(present) - class_of.keys()):
        what = (
            f"the value {unknown[0]}, which is none of the {len(class_of)} classes: write class k as value k"
            if len(set(present)) <= MAX_CLASSES
            else f"{len(set(present))} values, more than classes: export it without scaling"
        )
        raise InputError(
            f"{path} holds {what}, or use the format labels if the values are ids of cells",
            kind="invalid_class",
        )
    classes = {label: class_of[value] for label, value in enumerate(present, start=1)}
    return RawAnnotation(labels.astype(np.int32), classes, (str(path),))


def _values(path: Path, reading: Mapping[str, Any]) -> set[int]:
    """Returns the values of a class map, without background.

    Nothing is returned of a file that cannot be read or has too many values: reading its image says so.
    """
    try:
        values = np.unique(read_labels(path, **reading))
    except InputError:
        return set()
    return set(values[values > 0].tolist()) if len(values) <= MAX_CLASSES else set()


def _read_label_ids(path: Path, **reading: Any) -> tuple[np.ndarray, bool]:
    if is_lossy(path):
        # For the report, which says that JPEG altered these ids.
        return read_image(path, **reading).max(axis=-1), False
    labels = read_labels(path, **reading)
    return labels, _is_binary(labels)


def _read_colour_ids(path: Path, **reading: Any) -> tuple[np.ndarray, bool]:
    colours = read_image(path, **reading)
    if colours.shape[-1] != 3 or colours.dtype != np.uint8:
        raise InputError(
            f"{path} has {colours.shape[-1]} channels of {colours.dtype}, not 8-bit colours; if it holds ids"
            " use the format labels",
            kind="invalid_ids",
        )
    # `read_image` drops transparency, which is background.
    is_palette = pillow_mode(path) == "P"
    if is_palette and (alpha := palette_alpha(path)) is not None:
        labels = colour_ids(np.dstack([colours, alpha[read_labels(path, **reading)]]))
    elif is_palette or is_lossy(path) or path.suffix.lower() == ".npy":
        labels = colour_ids(colours)
    else:
        labels = read_labels(path, **reading)
    # Gaps between colours mean nothing.
    ids, dense = np.unique(labels, return_inverse=True)
    dense = dense.reshape(labels.shape) + (ids[0] != 0)
    return dense, not is_lossy(path) and _is_binary(labels)


def _read_components(path: Path, **reading: Any) -> tuple[np.ndarray, bool]:
    mask = read_foreground(path, **reading)
    return ndimage.label(mask, structure=np.ones((3, 3)))[0], False


def _is_binary(labels: np.ndarray) -> bool:
    """Returns whether a label map cannot separate instances: one id alone, in several 8-connected components.

    One id in one component is an image of one cell, whatever the id.
    """
    foreground = labels != 0
    if not foreground.any() or (labels[foreground] != labels[foreground][0]).any():
        return False
    return ndimage.label(foreground, structure=np.ones((3, 3)))[1] > 1


def _list_pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _image_key(source: AnnotationSource, folder: Path) -> str:
    """Returns the key of the image that a folder of masks belongs to."""
    relative = folder.relative_to(source.path)
    if folder.name not in MASK_FOLDERS:
        return relative.as_posix()
    image_folder = folder.parent / IMAGE_FOLDER
    if not image_folder.is_dir():
        return relative.parent.as_posix()
    images = _list_pictures(image_folder)
    if len(images) != 1:
        raise InputError(
            f"{image_folder} holds {len(images)} images, but {folder} the masks of one; keep one image"
        )
    return images[0].relative_to(source.path).with_suffix("").as_posix()
