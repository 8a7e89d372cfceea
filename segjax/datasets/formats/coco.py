"""COCO: one JSON file for all images, with polygons or run lengths.

pycocotools defines the pixels of a polygon: pixel edges lie at integers, and an outline along them gives back
its pixels. Run lengths are decoded here: where they end before the image does, pycocotools 2.0.11 returns
uninitialised memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np
from pycocotools import mask as coco_mask

from segjax.datasets.formats.annotation import (
    Annotations,
    RawAnnotation,
    check_shape,
    class_of,
    rasterize_instances,
    read_valid,
)
from segjax.datasets.formats.documents import JsonField, numbers
from segjax.datasets.formats.layout import AnnotationSource
from segjax.datasets.formats.outlines import check_inside, union
from segjax.errors import InputError
from segjax.segmentation import Cutout
from segjax.typing import IGNORE

# Lines through the centres of border pixels leave the image by half a pixel; other lines should not leave it.
MARGIN = 1.0


def open_coco(source: AnnotationSource) -> Annotations:
    """Opens one file, or a folder that holds one. Classes are the categories in ascending order of ids.

    A crowd (`iscrowd`: 1) is a region to ignore, unless `source.crowds_are_cells`. Where two instances
    overlap the smaller one is on top.
    """
    path = source.path
    if path.is_dir():
        paths = list(source.files([".json"]))
        if len(paths) != 1:
            raise InputError(
                f"{path} holds {len(paths)} JSON files, but COCO uses one for all images; give its path"
            )
        path = paths[0]
    return parse_coco(JsonField.load(path), source)


def parse_coco(document: JsonField, source: AnnotationSource) -> Coco:
    """Reads a JSON document with images, categories and annotations in COCO's format; see `open_coco`."""
    categories: dict[int, str] = {}
    for entry in _entries(document, "categories", "category"):
        if entry.get("id", int) in categories:
            raise entry.error("id", "is used twice")
        categories[entry.get("id", int)] = entry.get("name", str)
    images: dict[str, JsonField] = {}
    annotations: dict[str, list[JsonField]] = {}
    for image, entries in annotations_by_image(document):
        key = _key(image)
        if key in images:
            raise image.error("file_name", f"{image.fields['file_name']!r} is listed twice")
        images[key], annotations[key] = image, entries
    names = source.names(categories[index] for index in sorted(categories))
    return Coco(document.where, names, images, annotations, categories, source.crowds_are_cells)


def annotations_by_image(document: JsonField) -> list[tuple[JsonField, list[JsonField]]]:
    """Groups the annotations of a COCO document by image.

    Example::

        for image, annotations in annotations_by_image(JsonField.load(path)):
            shape = (image.get("height", int), image.get("width", int))
            masks = [instance_mask(annotation, shape) for annotation in annotations]

    Args:
      document: holds the lists `images` and `annotations`; their entries have an integer `id`.

    Returns:
      Each entry of `images` with its entries of `annotations`, in the order of the document. Annotations
      whose `image_id` no image has follow, with an entry that has no size and is named by this id.

    Raises:
      InputError: if a list or an id is missing, or two images have one id.
    """
    groups: dict[int, tuple[JsonField, list[JsonField]]] = {}
    for image in _entries(document, "images", "image"):
        if image.get("id", int) in groups:
            raise image.error("id", "is used twice")
        groups[image.get("id", int)] = (image, [])
    for annotation in _entries(document, "annotations", "annotation"):
        index = annotation.get("image_id", int)
        unlisted = JsonField(f"{document.where}: image {index}", {"file_name": f"image_id {index}"})
        groups.setdefault(index, (unlisted, []))[1].append(annotation)
    return list(groups.values())


def instance_mask(annotation: JsonField, shape: tuple[int, int], *, clip: bool = False) -> Cutout:
    """Rasterises the `segmentation` of one annotation: polygons or run lengths, compressed or not.

    Args:
      annotation: an entry of `annotations`.
      shape: `(H, W)` of the image.
      clip: moves vertices outside the image to its border and skips polygons of fewer than three vertices,
        for data sets that have them. If False both are errors.

    Returns:
      The mask, of size 0 if it covers no pixel.

    Raises:
      InputError: if the segmentation is missing, invalid, or of an image of another shape.
    """
    segmentation = annotation.fields.get("segmentation")
    if isinstance(segmentation, dict):
        return _decode_runs(_read_runs(annotation.child("segmentation"), shape), shape[0])
    if not isinstance(segmentation, list) or not (segmentation or clip):
        raise annotation.error("segmentation", "is missing or empty; a box is not a mask")
    parts = []
    for polygon in segmentation:
        flat = numbers(polygon, annotation, "segmentation")
        if len(flat) % 2 or (len(flat) < 6 and not clip):
            raise annotation.error(
                "segmentation", f"has a polygon of {len(flat)} numbers, not three pairs or more"
            )
        points = flat.reshape(-1, 2)
        if clip:
            points = np.clip(points, 0, [shape[1], shape[0]])
        else:
            check_inside(points, shape, MARGIN, annotation, "segmentation")
        if len(points) >= 3:
            compressed = coco_mask.frPyObjects([points.ravel().tolist()], *shape)[0]["counts"].decode()
            parts.append(_decode_runs(_decompress(compressed, annotation), shape[0]))
    return union(parts)


def image_names(path: Path) -> set[str]:
    """Returns the names, without folder and suffix, of the images that a COCO file lists."""
    return {PurePosixPath(_key(entry)).name for entry in _entries(JsonField.load(path), "images", "image")}


@dataclasses.dataclass(frozen=True)
class Coco:
    """A parsed COCO file, see `Annotations`.

    Attributes:
      where: the file.
      class_names: background first.
      images: entries of the images by key.
      annotations: entries of the annotations of an image by its key.
      categories: names by id.
      crowds_are_cells: whether crowds are instances, not regions to ignore.
    """

    where: str
    class_names: tuple[str, ...]
    images: Mapping[str, JsonField]
    annotations: Mapping[str, list[JsonField]]
    categories: Mapping[int, str]
    crowds_are_cells: bool = False

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of all listed images; one without annotations has no instances."""
        return frozenset(self.images)

    def read(self, key: str, shape: tuple[int, int]) -> RawAnnotation:
        """Reads one image, see `Annotations`; instances are numbered in the order of the file.

        An annotation that is invalid is left out, see `RawAnnotation.invalid`.
        """
        if key not in self.images:
            raise InputError(
                f"{self.where} lists no image {key}; its file_name must be the image's path",
                kind="missing_mask",
            )
        image = self.images[key]
        check_shape(image.where, (image.get("height", int), image.get("width", int)), shape)
        valid, invalid = read_valid(
            self.annotations[key],
            lambda annotation: (
                instance_mask(annotation, shape),
                self._class_of(annotation),
                annotation.optional("score", float),
            ),
        )
        masks, classes, scores = zip(*valid, strict=True) if valid else ((), (), ())
        result = rasterize_instances(masks, shape, classes=classes, files=(self.where,), invalid=invalid)
        by_id = {index: score for index, score in enumerate(scores, start=1) if score is not None}
        return dataclasses.replace(result, num_crowds=classes.count(IGNORE), scores=by_id)

    def _class_of(self, annotation: JsonField) -> int:
        category = annotation.get("category_id", int)
        if category not in self.categories:
            raise annotation.error("category_id", f"is {category}, which no category has")
        crowd = annotation.fields.get("iscrowd") or 0
        if crowd not in (0, 1):
            raise annotation.error("iscrowd", f"is {crowd!r}, neither 0 nor 1")
        if crowd and not self.crowds_are_cells:
            return IGNORE
        where = f"{annotation.where}: the category {category}"
        return class_of(self.categories[category], self.class_names, where)


def _entries(document: JsonField, name: str, singular: str) -> list[JsonField]:
    """Returns the objects of a list, each named by its id in errors."""
    return [
        JsonField(f"{document.where}: {singular} {entry.get('id', int)}", entry.fields)
        for entry in document.children(name)
    ]


def _key(image: JsonField) -> str:
    """Returns the path of an image without its suffix, as far as it is relative.

    Programs also write URLs, absolute paths of another machine, and, as Label Studio does,
    `/data/local-files/?d=PATH`. `match_by_path_end` matches these by their end.
    """
    text = image.get("file_name", str).replace("\\", "/")
    if "?d=" in text or "://" in text:
        # Only addresses of the web have fragments; elsewhere `#` is part of a name.
        url = urlsplit(text, allow_fragments=text.lower().startswith(("http://", "https://")))
        query = dict(field.partition("=")[::2] for field in url.query.split("&"))
        text = unquote(query.get("d", url.path))
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    if parts and parts[0].endswith(":"):  # a drive of Windows
        parts = parts[1:]
    if not parts:
        raise image.error("file_name", f"{text!r} names no file")
    return PurePosixPath(*parts).with_suffix("").as_posix()


def _read_runs(segmentation: JsonField, shape: tuple[int, int]) -> np.ndarray:
    size = segmentation.get("size", list)
    if size != list(shape):
        raise segmentation.error("size", f"is {size}, but the image's is {list(shape)}", kind="size_mismatch")
    counts = segmentation.fields.get("counts")
    if isinstance(counts, str):
        runs = _decompress(counts, segmentation)
    else:
        runs = numbers(counts, segmentation, "counts")
    total = shape[0] * shape[1]
    if (runs < 0).any() or (runs != np.round(runs)).any() or runs.sum() != total:
        raise segmentation.error("counts", f"are not run lengths that add up to {total}")
    return runs


def _decode_runs(runs: np.ndarray, height: int) -> Cutout:
    """Converts run lengths, which go down the columns and begin with background, to a mask."""
    ends = np.cumsum(runs.astype(np.int64))
    stops = ends[1::2]
    starts = ends[::2][: len(stops)]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return Cutout.of(np.zeros((0, 0), bool))
    # Decode only the columns from the first to the last foreground pixel.
    left, right = int(starts[0]) // height, (int(stops[-1]) - 1) // height + 1
    flips = np.zeros((right - left) * height + 1, np.int8)
    # With empty runs between them, several runs begin or end at one pixel.
    np.add.at(flips, starts - left * height, 1)
    np.add.at(flips, stops - left * height, -1)
    inside = np.cumsum(flips[:-1], dtype=np.int8).astype(bool)
    return Cutout.of(inside.reshape(right - left, height).T, left=left)


def _decompress(text: str, entry: JsonField) -> np.ndarray:
    """Decodes COCO's compressed run lengths.

    A character holds five bits of a number, the lowest first; its sixth bit is set if more follow. From the
    fourth number on, the difference to the number before the last is stored.
    """
    runs: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64 or shift > 30:
            raise entry.error("counts", "are not compressed run lengths")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise entry.error("counts", "end in the middle of a number")
    return np.array(runs, np.float64)
