"""Tells the format of annotations by the kinds of files, and says so where it cannot."""

from __future__ import annotations

from pathlib import Path

from segjax.data.readers import SUFFIXES
from segjax.datasets.formats.binary import foreground
from segjax.datasets.formats.coco import stems_of_images
from segjax.datasets.formats.documents import load
from segjax.datasets.formats.imagej import ENDINGS as ROIS
from segjax.datasets.formats.labels import JPEG_SUFFIXES
from segjax.datasets.formats.layout import IMAGE_FOLDER, MASK_FOLDERS, AnnotationSource, absolute
from segjax.datasets.formats.qupath import is_feature
from segjax.datasets.formats.voc import CLASSES, OBJECTS
from segjax.errors import InputError

# Of a thousand files of one ending a few tell the format.
NUM_SAMPLES = 8


def detect(place: AnnotationSource, formats: tuple[str, ...]) -> str:
    """The format of annotations.

    Args:
      place: where they are.
      formats: all there are, to be listed where in doubt.

    Returns:
      `labels` (colour pictures too), `instances`, `coco`, `labelme`, `voc`, `qupath` or `imagej`. A mask of
      two values is a label image here; that it tells no instances apart is noticed when it is read.

    Raises:
      InputError: if nothing is annotated, or more than one format could be meant.
    """
    if all((place.path / name).is_dir() for name in (OBJECTS, CLASSES)):
        return "voc"
    found: dict[str, Path] = {}
    stems, damaged = set(), None
    for ending in (".json", ".geojson", *ROIS):
        for count, path in enumerate(place.files([ending])):
            stems.add(path.stem)
            try:
                kind = _kind(path) if count < NUM_SAMPLES else None
            except InputError as error:
                kind, damaged = None, error
            if kind:
                found.setdefault(kind, path)
    if "coco" in found:
        stems |= stems_of_images(found["coco"])
    # A JPEG beside outlines is a photograph.
    pictures = [
        path for path in place.files(SUFFIXES) if not found or path.suffix.lower() not in JPEG_SUFFIXES
    ]
    if place.images:
        own = set(place.images.values())
        pictures = [path for path in pictures if absolute(path) not in own]
    elif found:
        # A picture beside an outline of its name is most likely the image that it was drawn on.
        pictures = [path for path in pictures if path.stem not in stems]
    if pictures:
        found[_kind_of_pictures(place, pictures, formats)] = pictures[0]
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise damaged or InputError(f"{place.path} holds no annotation; the formats are {', '.join(formats)}")
    shown = " and ".join(f"{path} ({kind})" for kind, path in found.items())
    raise InputError(f"{shown} are of different formats; say which is meant: {', '.join(formats)}")


def _kind(path: Path) -> str | None:
    """The format of outlines; None of a JSON file that annotates nothing."""
    if path.suffix.lower() in ROIS:
        return "imagej"
    if path.suffix.lower() == ".geojson":
        return "qupath"
    value = load(path)
    if isinstance(value, list):
        return "qupath" if value and is_feature(value[0]) else None
    if not isinstance(value, dict):
        return None
    if is_feature(value) or value.get("type") == "FeatureCollection":
        return "qupath"
    if "images" in value and "annotations" in value:
        return "coco"
    return "labelme" if "shapes" in value else None


def _kind_of_pictures(place: AnnotationSource, pictures: list[Path], formats: tuple[str, ...]) -> str:
    """Label images, or a folder of masks for each image."""
    first: dict[Path, Path] = {}
    for path in pictures:
        first.setdefault(path.parent, path)
    if all(_belongs_to_one_image(place, folder) for folder in first):
        return "instances"
    sampled = list(first.values())[:NUM_SAMPLES]
    if place.path not in first and len(pictures) > len(first) and all(_is_mask(path) for path in sampled):
        raise InputError(
            f"{sampled[0]} may be the mask of one instance or of all cells; say which format is meant:"
            f" {', '.join(formats)}"
        )
    return "labels"


def _belongs_to_one_image(place: AnnotationSource, folder: Path) -> bool:
    """Whether a folder is named as an image is, or lies as in the Data Science Bowl."""
    if folder == place.path or not folder.is_relative_to(place.path):
        return False
    if folder.relative_to(place.path).as_posix() in place.images:
        return True
    images = [path.stem for path in (folder.parent / IMAGE_FOLDER).glob("[!.]*.*")]
    return folder.name in MASK_FOLDERS and images == [folder.parent.name]


def _is_mask(path: Path) -> bool:
    try:
        foreground(path, max_pixels=2**26)
    except InputError:
        return False
    return True
