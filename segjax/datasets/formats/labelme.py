"""LabelMe: one JSON for each image, with polygons, rectangles, circles and masks.

LabelMe draws through pixel centres at whole numbers, and the pixels under the line belong to the shape; so
does Pillow, and so are shapes drawn here. A shape drawn later lies on top.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Hashable
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from PIL import Image, ImageDraw

from segjax.datasets.formats.classes import IGNORED, class_of, names_in
from segjax.datasets.formats.documents import JsonField, coordinates, load
from segjax.datasets.formats.drawing import Annotations, RawAnnotation, check_shape, rasterize_instances
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.datasets.formats.outlines import check_inside, union
from segjax.errors import InputError
from segjax.segmentation import Cutout
from segjax.typing import IGNORE

# LabelMe keeps points inside the image.
MARGIN = 1.0
# Each holds its image as text, if LabelMe was told so.
MAX_BYTES = 2**28


def open_labelme(place: AnnotationSource) -> Annotations:
    """Classes are the labels in the order of the alphabet; shapes labelled `__ignore__` are to be ignored.

    Shapes of one `group_id` and one label are one instance.
    """
    index = place.index([".json"])
    names = place.class_names or place.names(names_in(place.files([".json"]), _labels))
    return OneFilePerImage(index, names, partial(_draw, class_names=names, suffixes=place.suffixes))


def _load(path: Path) -> JsonField:
    return JsonField.of(load(path, max_bytes=MAX_BYTES), str(path))


def _shapes(document: JsonField) -> list[JsonField]:
    shapes = document.get("shapes", list)
    return [JsonField.of(shape, f"{document.where}: shapes[{index}]") for index, shape in enumerate(shapes)]


def _labels(path: Path) -> list[str]:
    return [shape.get("label", str) for shape in _shapes(_load(path))]


def _draw(
    path: Path, shape: tuple[int, int], class_names: tuple[str, ...], suffixes: tuple[str, ...]
) -> RawAnnotation:
    document = _load(path)
    check_shape(path, (document.get("imageHeight", int), document.get("imageWidth", int)), shape)
    written = document.get("imagePath", str)
    # Only its name is used, to notice an annotation that was copied beside the wrong image.
    image = PureWindowsPath(written) if "\\" in written else PurePosixPath(written)
    if path.stem not in (image.stem, *(image.stem + suffix for suffix in suffixes)):
        raise document.complaint("imagePath", f"is {written!r}, another image than the file's name says")
    parts: dict[Hashable, list[Cutout]] = {}
    classes: dict[Hashable, int] = {}
    for index, entry in enumerate(_shapes(document)):
        label, group = entry.get("label", str), entry.optional("group_id", int)
        instance = (label, index if group is None else None, group)
        parts.setdefault(instance, []).append(_cutout(entry, shape))
        if label == IGNORED:
            classes[instance] = IGNORE
        else:
            classes[instance] = class_of(label, class_names, f"{entry.where}: label")
    return rasterize_instances(
        [union(cutouts) for cutouts in parts.values()],
        shape,
        classes=list(classes.values()),
        files=(str(path),),
        smaller_on_top=False,
    )


def _cutout(entry: JsonField, shape: tuple[int, int]) -> Cutout:
    kind = entry.fields.get("shape_type", "polygon")
    points = coordinates(entry.fields.get("points"), entry, "points")
    check_inside(points, shape, MARGIN, entry, "points")
    if kind in ("polygon", "oriented_rectangle"):
        needed = 3
    elif kind in ("rectangle", "circle", "mask"):
        needed = 2
    else:
        raise entry.complaint("shape_type", f"is {kind!r}, which covers no area")
    if len(points) < needed or (needed == 2 and len(points) > 2):
        raise entry.complaint("points", f"has {len(points)} points, which make no {kind}")
    if kind == "mask":
        return _from_mask(entry, points, shape)
    if kind == "circle":
        centre, rim = points
        radius = math.dist(centre, rim)
        points = np.stack([centre - radius, centre + radius])
        if radius > max(shape):
            raise entry.complaint("points", f"make a circle of radius {radius:g}, larger than the image")
    elif kind == "rectangle":
        points = np.sort(points, axis=0)
    return _drawn(kind, points, shape)


def _drawn(kind: str, points: np.ndarray, shape: tuple[int, int]) -> Cutout:
    """Draws in the shape's box alone, moved by whole pixels."""
    low = np.floor(points.min(axis=0)).astype(int) - 1
    width, height = (np.ceil(points.max(axis=0)).astype(int) - low + 2).tolist()
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    moved = [tuple(point) for point in (points - low).tolist()]
    if kind == "rectangle":
        pen.rectangle(moved, fill=1, outline=1)
    elif kind == "circle":
        pen.ellipse(moved, fill=1, outline=1)
    else:
        pen.polygon(moved, fill=1, outline=1)
    return Cutout.of(np.asarray(canvas)).moved(int(low[1]), int(low[0]), shape)


def _from_mask(entry: JsonField, points: np.ndarray, shape: tuple[int, int]) -> Cutout:
    """A picture of 0 and 1 in base64, between its first and last pixel."""
    (left, top), (right, bottom) = points.astype(int).tolist()
    try:
        content = base64.b64decode(entry.get("mask", str), validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            if picture.size != (right - left + 1, bottom - top + 1):
                raise entry.complaint("mask", f"has the size {picture.size}, other than its points say")
            mask = np.asarray(picture.convert("L")) > 0
    except InputError:
        raise
    except Exception as error:
        raise entry.complaint("mask", f"cannot be read ({error})") from error
    return Cutout.of(mask).moved(top, left, shape)
