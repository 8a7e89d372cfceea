"""Readers of annotation formats. Each reproduces the masks of its tool and repairs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from segjax.data.readers import NO_PLANES
from segjax.datasets.formats.annotation import Annotations, RawAnnotation
from segjax.datasets.formats.auto_format import detect_format
from segjax.datasets.formats.coco import open_coco
from segjax.datasets.formats.imagej import open_imagej
from segjax.datasets.formats.labelme import open_labelme
from segjax.datasets.formats.layout import AnnotationSource, absolute
from segjax.datasets.formats.mask_images import (
    open_binary,
    open_classes,
    open_colours,
    open_instances,
    open_labels,
)
from segjax.datasets.formats.names import SUFFIXES, annotations_among, without_masks
from segjax.datasets.formats.qupath import open_qupath
from segjax.datasets.formats.remapping import match_by_path_end
from segjax.datasets.formats.voc import open_voc
from segjax.errors import InputError, choose

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "Annotations",
    "RawAnnotation",
    "annotations_among",
    "open_annotations",
    "without_masks",
]

FORMATS: dict[str, Callable[[AnnotationSource], Annotations]] = {
    "labels": open_labels,
    "colours": open_colours,
    "binary": open_binary,
    "classes": open_classes,
    "instances": open_instances,
    "coco": open_coco,
    "labelme": open_labelme,
    "voc": open_voc,
    "qupath": open_qupath,
    "imagej": open_imagej,
}


def open_annotations(
    path: str | Path,
    *,
    format: str = "auto",  # noqa: A002 - the obvious name
    class_names: tuple[str, ...] | None = None,
    suffixes: tuple[str, ...] = SUFFIXES,
    images: Mapping[str, Path] | None = None,
    crowds_are_cells: bool = False,
    without: tuple[Path, ...] = (),
    planes: Mapping[str, int] = NO_PLANES,
) -> Annotations:
    """Opens the annotations of a folder of images.

    Args:
      path: a folder, searched with its subfolders, or one file.
      format: one of `FORMATS`, or `auto` to detect it; `auto` never takes a foreground mask for instances.
      class_names: background first; None for the names in the annotations, or `background` and `cell`.
      suffixes: endings that an annotation may append to the name of its image, in formats with one file for
        each image.
      images: files of the images by key, if known, see `without_masks`. With them an image is never its own
        annotation, and annotations that name images by another path are matched by its end:
        `JPEGImages/a.jpg` in a COCO file is the image `a`.
      crowds_are_cells: whether annotations of COCO with `iscrowd: 1` are instances. If False, their pixels
        are ignored, as COCO does.
      without: absolute paths of files and folders to ignore, such as a report in the same folder.
      planes: plane to read along each axis of masks that are stacks, see `choose_plane`.

    Returns:
      The annotations by key, the path of an image relative to the folder of images, without suffix. They can
      be pickled.

    Raises:
      InputError: if there is nothing to read, it is damaged, or the format is ambiguous.
    """
    path = Path(path)
    choose(("auto", *FORMATS), "format", format)
    if not path.exists():
        raise InputError(f"{path} does not exist; give the folder or file of the annotations")
    if class_names is not None and (len(class_names) < 2 or len(set(class_names)) < len(class_names)):
        raise InputError(
            f"class_names {class_names} must be background and the different names of one class or more"
        )
    known = {key: absolute(image) for key, image in without_masks(images or {}, suffixes).items()}
    source = AnnotationSource(
        path,
        class_names,
        suffixes,
        images=known,
        crowds_are_cells=crowds_are_cells,
        without=without,
        planes=dict(planes),
    )
    name = detect_format(source, tuple(FORMATS)) if format == "auto" else format
    return match_by_path_end(FORMATS[name](source), source.images, by_name=name == "coco")
