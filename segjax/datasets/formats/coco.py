"""COCO: one JSON for all images, with polygons or run lengths.

Polygons are drawn by pycocotools, whose pixels are COCO's by definition: pixel edges lie at whole numbers,
and an outline along them gives back its pixels. Run lengths are decoded here: where they end before the image
does, pycocotools 2.0.11 returns memory that nobody wrote.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segjax.datasets.formats.classes import class_of
from segjax.datasets.formats.documents import JsonField, load, numbers
from segjax.datasets.formats.drawing import Annotations, RawAnnotation, check_shape, rasterize_instances
from segjax.datasets.formats.layout import AnnotationSource
from segjax.datasets.formats.outlines import check_inside, union
from segjax.errors import InputError
from segjax.segmentation import Cutout
from segjax.typing import IGNORE

# Lines through the centres of border pixels leave the image by half a pixel; nothing else has to.
MARGIN = 1.0


def open_coco(place: AnnotationSource) -> Annotations:
    """One file, or a folder that holds one; classes are its categories by ascending id.

    A crowd (`iscrowd`: 1) is a region to be ignored. Where two instances overlap the smaller one is on top.
    """
    path = place.path
    if path.is_dir():
        found = list(place.files([".json"]))
        if len(found) != 1:
            raise InputError(f"{path} holds {len(found)} JSON files, but COCO is one for all images; name it")
        path = found[0]
    document = JsonField.of(load(path), str(path))
    categories = {}
    for entry in _entries(document, path, "categories"):
        categories[entry.get("id", int)] = entry.get("name", str)
    images: dict[str, JsonField] = {}
    key_of: dict[int, str] = {}
    for entry in _entries(document, path, "images"):
        key = _key(entry)
        if key in images or entry.get("id", int) in key_of:
            raise entry.complaint("file_name", f"{entry.fields['file_name']!r} or its id is there twice")
        images[key] = entry
        key_of[entry.get("id", int)] = key
    annotations = defaultdict(list)
    for entry in _entries(document, path, "annotations"):
        image = entry.get("image_id", int)
        if image not in key_of:
            raise entry.complaint("image_id", f"is {image}, which no image has")
        annotations[key_of[image]].append(entry)
    names = place.names(categories[index] for index in sorted(categories))
    return Coco(path, names, images, dict(annotations), categories)


def stems_of_images(path: Path) -> set[str]:
    """The names, without folder and ending, of the images that a COCO file lists."""
    document = JsonField.of(load(path), str(path))
    return {PurePosixPath(_key(entry)).name for entry in _entries(document, path, "images")}


@dataclasses.dataclass(frozen=True)
class Coco:
    """A parsed COCO file.

    Attributes:
      path: the file.
      class_names: background first.
      images: their entries by key.
      annotations: those of an image by its key.
      categories: names by id.
    """

    path: Path
    class_names: tuple[str, ...]
    images: Mapping[str, JsonField]
    annotations: Mapping[str, list[JsonField]]
    categories: Mapping[int, str]

    @property
    def keys(self) -> frozenset[str]:
        """Of all images listed, those without an annotation too: nothing is in them."""
        return frozenset(self.images)

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads what was drawn on one image, see `Annotations`; instances are numbered as they are listed."""
        if key not in self.images:
            raise InputError(f"{self.path} lists no image {key}; its file_name must be the image's path")
        image = self.images[key]
        check_shape(image.where, (image.get("height", int), image.get("width", int)), shape)
        cutouts, classes = [], []
        for entry in self.annotations.get(key, []):
            category = entry.get("category_id", int)
            if category not in self.categories:
                raise entry.complaint("category_id", f"is {category}, which no category has")
            cutouts.append(_cutout(entry, shape))
            crowd = entry.fields.get("iscrowd") or 0
            if crowd not in (0, 1):
                raise entry.complaint("iscrowd", f"is {crowd!r}, neither 0 nor 1")
            if crowd:
                classes.append(IGNORE)
            else:
                where = f"{entry.where}: the category {category}"
                classes.append(class_of(self.categories[category], self.class_names, where))
        return rasterize_instances(cutouts, shape, classes=classes, files=(str(self.path),))


def _entries(document: JsonField, path: Path, name: str) -> list[JsonField]:
    """The objects of one of the lists, each with its id to complain by."""
    made = []
    for index, value in enumerate(document.get(name, list)):
        entry = JsonField.of(value, f"{path}: {name}[{index}]")
        kind = {"categories": "category", "images": "image", "annotations": "annotation"}[name]
        made.append(JsonField(f"{path}: {kind} {entry.get('id', int)}", entry.fields))
    return made


def _key(image: JsonField) -> str:
    name = PurePosixPath(image.get("file_name", str).replace("\\", "/"))
    if not name.name or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        raise image.complaint("file_name", f"{str(name)!r} is not a path inside the folder of images")
    return name.with_suffix("").as_posix()


def _cutout(entry: JsonField, shape: tuple[int, int]) -> Cutout:
    segmentation = entry.fields.get("segmentation")
    if isinstance(segmentation, dict):
        return _from_runs(JsonField(entry.where, segmentation), shape)
    if isinstance(segmentation, list) and segmentation:
        return union([_from_polygon(entry, polygon, shape) for polygon in segmentation])
    raise entry.complaint("segmentation", "is missing or empty; a box is not a mask")


def _from_polygon(entry: JsonField, polygon: Any, shape: tuple[int, int]) -> Cutout:
    flat = numbers(polygon, entry, "segmentation")
    if len(flat) < 6 or len(flat) % 2:
        raise entry.complaint(
            "segmentation", f"has a polygon of {len(flat)} numbers, not three pairs or more"
        )
    check_inside(flat.reshape(-1, 2), shape, MARGIN, entry, "segmentation")
    runs = coco_mask.frPyObjects([flat.tolist()], *shape)
    return _decoded(_decompressed(runs[0]["counts"].decode(), entry), shape[0])


def _from_runs(segmentation: JsonField, shape: tuple[int, int]) -> Cutout:
    size = segmentation.get("size", list)
    if size != list(shape):
        raise segmentation.complaint("segmentation.size", f"is {size}, but the image's is {list(shape)}")
    counts = segmentation.fields.get("counts")
    if isinstance(counts, str):
        runs = _decompressed(counts, segmentation)
    else:
        runs = numbers(counts, segmentation, "segmentation.counts")
    total = shape[0] * shape[1]
    if (runs < 0).any() or (runs != np.round(runs)).any() or runs.sum() != total:
        raise segmentation.complaint(
            "segmentation.counts", f"is not a list of run lengths that add up to {total}"
        )
    return _decoded(runs, shape[0])


def _decoded(runs: np.ndarray, height: int) -> Cutout:
    """Run lengths go down the columns, background first."""
    ends = np.cumsum(runs.astype(np.int64))
    stops = ends[1::2]
    starts = ends[::2][: len(stops)]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return Cutout.of(np.zeros((0, 0), bool))
    # Only the columns it reaches into.
    left, right = int(starts[0]) // height, (int(stops[-1]) - 1) // height + 1
    flips = np.zeros((right - left) * height + 1, np.int8)
    # Several runs may begin or end at one pixel, if runs between them are empty.
    np.add.at(flips, starts - left * height, 1)
    np.add.at(flips, stops - left * height, -1)
    inside = np.cumsum(flips[:-1], dtype=np.int8).astype(bool)
    return Cutout.of(inside.reshape(right - left, height).T, left=left)


def _decompressed(text: str, segmentation: JsonField) -> np.ndarray:
    """COCO's compressed run lengths: five bits a character, the lowest first; a sixth says that more follow.

    From the fourth on it is the difference to the run before the last that is written.
    """
    runs: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64 or shift > 30:
            raise segmentation.complaint("segmentation.counts", "is no compressed run lengths")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise segmentation.complaint("segmentation.counts", "ends in the middle of a number")
    return np.array(runs, np.float64)
