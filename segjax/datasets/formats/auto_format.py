"""Detects the format of annotations from the files in a folder, or reports that it is ambiguous."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from segjax.data.readers import SUFFIXES, is_lossy
from segjax.datasets.formats.coco import image_names
from segjax.datasets.formats.documents import load_json
from segjax.datasets.formats.imagej import SUFFIXES as ROI_SUFFIXES
from segjax.datasets.formats.layout import AnnotationSource, absolute
from segjax.datasets.formats.mask_images import read_foreground
from segjax.datasets.formats.names import IMAGE_FOLDER, MASK_FOLDERS
from segjax.datasets.formats.names import SUFFIXES as ENDINGS
from segjax.datasets.formats.qupath import is_feature
from segjax.datasets.formats.voc import CLASSES, OBJECTS
from segjax.errors import InputError

# A few of a thousand files of one suffix are enough.
NUM_SAMPLES = 8


def detect_format(source: AnnotationSource, formats: tuple[str, ...]) -> str:
    """Detects the format of annotations.

    Args:
      source: the annotations.
      formats: names of all formats, for errors.

    Returns:
      `labels` (also for colour pictures), `instances`, `coco`, `labelme`, `voc`, `qupath` or `imagej`. A mask
      of two values is a label image here; that it cannot separate instances shows when it is read.

    Raises:
      InputError: if there is no annotation, or the format is ambiguous.
    """
    if all((source.path / name).is_dir() for name in (OBJECTS, CLASSES)):
        return "voc"
    first: dict[str, Path] = {}
    stems, damaged = set(), None
    for suffix in (".json", ".geojson", *ROI_SUFFIXES):
        for count, path in enumerate(source.files([suffix])):
            stems.add(path.stem)
            try:
                name = _outline_format(path) if count < NUM_SAMPLES else None
            except InputError as error:
                name, damaged = None, error
            if name:
                first.setdefault(name, path)
    if "coco" in first:
        stems |= image_names(first["coco"])
    # A JPEG or lossy WebP next to outlines is a photograph.
    pictures = [path for path in source.files(SUFFIXES) if not (first and is_lossy(path))]
    if source.images:
        images = set(source.images.values())
        pictures = [path for path in pictures if absolute(path) not in images]
    elif first:
        # A picture with the name of an outline file is most likely the image itself.
        pictures = [path for path in pictures if path.stem not in stems]
    if "imagej" in first and _covers(pictures, source.files(ROI_SUFFIXES)):
        del first["imagej"]
    if pictures:
        first[_picture_format(source, pictures, formats)] = pictures[0]
    if len(first) == 1:
        return next(iter(first))
    if not first:
        raise damaged or source.nothing(
            f"the formats are {', '.join(formats)}, and a picture is a mask if it has the name of an image"
            f" and an ending such as {ENDINGS[0]}, or lies in another folder"
        )
    shown = " and ".join(f"{path} ({name})" for name, path in first.items())
    raise InputError(f"{shown} have different formats; choose one: {', '.join(formats)}")


def _covers(pictures: list[Path], rois: Iterable[Path]) -> bool:
    """Returns whether all ROIs are outlines that Cellpose writes beside label images of the same cells."""
    labels = {path.with_suffix("") for path in pictures}
    return all(
        path.stem.endswith("_rois")
        and path.with_name(f"{path.stem.removesuffix('_rois')}_cp_masks") in labels
        for path in rois
    )


def _outline_format(path: Path) -> str | None:
    """Returns the format of an outline file, None for a JSON file without annotations."""
    if path.suffix.lower() in ROI_SUFFIXES:
        return "imagej"
    if path.suffix.lower() == ".geojson":
        return "qupath"
    value = load_json(path)
    if isinstance(value, list):
        return "qupath" if value and is_feature(value[0]) else None
    if not isinstance(value, dict):
        return None
    if is_feature(value) or value.get("type") == "FeatureCollection":
        return "qupath"
    if "images" in value and "annotations" in value:
        return "coco"
    return "labelme" if "shapes" in value else None


def _picture_format(source: AnnotationSource, pictures: list[Path], formats: tuple[str, ...]) -> str:
    """Returns `labels`, or `instances` if each folder holds the masks of one image."""
    first: dict[Path, Path] = {}
    for path in pictures:
        first.setdefault(path.parent, path)
    if all(_is_of_one_image(source, folder) for folder in first):
        return "instances"
    sample = list(first.values())[:NUM_SAMPLES]
    if (
        source.path not in first
        and len(pictures) > len(first)
        and all(_is_mask(path, source) for path in sample)
    ):
        raise InputError(
            f"{sample[0]} may be the mask of one instance or of all cells; name the format:"
            f" {', '.join(formats)}"
        )
    return "labels"


def _is_of_one_image(source: AnnotationSource, folder: Path) -> bool:
    """Returns whether a folder has the name of an image, or the layout of the Data Science Bowl."""
    if folder == source.path or not folder.is_relative_to(source.path):
        return False
    if folder.relative_to(source.path).as_posix() in source.images:
        return True
    images = [path.stem for path in (folder.parent / IMAGE_FOLDER).glob("[!.]*.*")]
    return folder.name in MASK_FOLDERS and images == [folder.parent.name]


def _is_mask(path: Path, source: AnnotationSource) -> bool:
    try:
        read_foreground(path, max_pixels=2**26, planes=source.planes)
    except InputError:
        return False
    return True
