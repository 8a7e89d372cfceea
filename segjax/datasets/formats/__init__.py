"""What annotators drew, in the formats of their tools.

Every format is read as it is drawn in its tool, and nothing is repaired: what comes out is a `RawAnnotation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from segjax.data.readers import MAX_PIXELS
from segjax.datasets.formats.binary import open_binary
from segjax.datasets.formats.coco import open_coco
from segjax.datasets.formats.colours import open_colours
from segjax.datasets.formats.detection import detect
from segjax.datasets.formats.drawing import Annotations, RawAnnotation
from segjax.datasets.formats.imagej import open_imagej
from segjax.datasets.formats.instances import open_instances
from segjax.datasets.formats.labelme import open_labelme
from segjax.datasets.formats.labels import open_labels
from segjax.datasets.formats.layout import SUFFIXES, AnnotationSource, absolute
from segjax.datasets.formats.matching import renamed, without_masks
from segjax.datasets.formats.qupath import open_qupath
from segjax.datasets.formats.voc import open_voc
from segjax.errors import InputError

__all__ = ["FORMATS", "SUFFIXES", "Annotations", "RawAnnotation", "open_annotations", "without_masks"]

FORMATS: dict[str, Callable[[AnnotationSource], Annotations]] = {
    "labels": open_labels,
    "colours": open_colours,
    "binary": open_binary,
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
    format: str = "auto",  # noqa: A002 - the word that everybody looks for
    class_names: tuple[str, ...] | None = None,
    suffixes: tuple[str, ...] = SUFFIXES,
    max_pixels: int = MAX_PIXELS,
    images: Mapping[str, Path] | None = None,
) -> Annotations:
    """Opens the annotations of a folder of images.

    Args:
      path: a folder, searched with its subfolders, or one file.
      format: one of `FORMATS`, or `auto` to tell by the kinds of files; a foreground mask is never taken for
        instances unless `binary` is asked for.
      class_names: background first; None for those that the annotations name, else `background` and `cell`.
      suffixes: what a file's name may have more than its image's, where there is one file for each image.
      max_pixels: of one picture.
      images: the images' files by key, where the caller knows them, see `without_masks`. Then a picture is
        never taken for its own annotation when both lie in one folder, and images are found whose annotation
        names them from another folder: `JPEGImages/a.jpg` in a COCO file is the image `a`.

    Returns:
      The annotations by key: an image's path relative to the images' folder, without suffix. They can be
      pickled.

    Raises:
      InputError: if there is nothing to read, it is damaged, or `auto` is in doubt.
    """
    path = Path(path)
    if format != "auto" and format not in FORMATS:
        raise InputError(f"there is no annotation format {format!r}; there are auto, {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"{path} does not exist; give the folder or file of the annotations")
    if class_names is not None and (len(class_names) < 2 or len(set(class_names)) < len(class_names)):
        raise InputError(
            f"class_names {class_names} must be background and the different names of one class or more"
        )
    known = {key: absolute(image) for key, image in without_masks(images or {}, suffixes).items()}
    place = AnnotationSource(path, class_names, suffixes, max_pixels, known)
    if format == "auto":
        format = detect(place, tuple(FORMATS))  # noqa: A001
    return renamed(FORMATS[format](place), place.images)
