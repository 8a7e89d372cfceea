"""LabelMe: one JSON file for each image, with polygons, rectangles, circles and masks.

LabelMe draws through pixel centres at integers, and the pixels under the line belong to the shape. Pillow
does the same, so it rasterises the shapes. A later shape lies on top.
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

from segjax.datasets.formats.annotation import (
    IGNORED,
    Annotations,
    RawAnnotation,
    check_shape,
    class_of,
    names_in,
    rasterize_instances,
    read_valid,
)
from segjax.datasets.formats.documents import JsonField, coordinates
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.datasets.formats.names import base_name
from segjax.datasets.formats.outlines import check_inside, union
from segjax.errors import InputError
from segjax.segmentation import Cutout
from segjax.typing import IGNORE

# LabelMe keeps points inside the image.
MARGIN = 1.0
# Shapes of four corners, which a turn may move out of the image.
TURNED = ("oriented_rectangle", "rotation")
# A file may embed its image as text.
MAX_BYTES = 2**28
# Pillow's method for a shape.
METHODS = {
    "polygon": "polygon",
    "oriented_rectangle": "polygon",
    "quadrilateral": "polygon",
    "rotation": "polygon",
    "rectangle": "rectangle",
    "circle": "ellipse",
    "mask": "bitmap",
}


def open_labelme(source: AnnotationSource) -> Annotations:
    """Classes are the labels in alphabetical order; shapes labelled `__ignore__` are regions to ignore.

    Shapes of one `group_id` and one label are one instance. X-AnyLabeling writes the same files, with four
    corners of a rectangle, and turned rectangles as shapes `rotation`.
    """
    names = source.class_names or source.names(names_in(source.files([".json"]), _labels))
    read_file = partial(_read_file, class_names=names, suffixes=source.suffixes)
    return OneFilePerImage(source.index([".json"]), names, read_file)


def _labels(path: Path) -> list[str]:
    shapes = JsonField.load(path, max_bytes=MAX_BYTES).children("shapes", strict=False)
    # The label of a mark that covers no area, such as a scale bar, is no class.
    outlines, _ = read_valid(shapes, lambda shape: (_outline(shape), shape.get("label", str)))
    return [label for _, label in outlines]


def _read_file(
    path: Path, shape: tuple[int, int], class_names: tuple[str, ...], suffixes: tuple[str, ...]
) -> RawAnnotation:
    document = JsonField.load(path, max_bytes=MAX_BYTES)
    check_shape(path, (document.get("imageHeight", int), document.get("imageWidth", int)), shape)
    written = document.get("imagePath", str)
    # Only the file name is compared, to detect an annotation that was copied to the wrong image.
    image = PureWindowsPath(written) if "\\" in written else PurePosixPath(written)
    if base_name(path.stem) not in {base_name(image.stem + suffix) for suffix in ("", *suffixes)}:
        raise document.error("imagePath", f"is {written!r}, another image than the file is named after")
    shapes, invalid = read_valid(
        document.children("shapes", strict=False), partial(_read_shape, shape=shape, class_names=class_names)
    )
    parts: dict[Hashable, list[Cutout]] = {}
    classes: dict[Hashable, int] = {}
    for instance, index, mask in shapes:
        parts.setdefault(instance, []).append(mask)
        classes[instance] = index
    return rasterize_instances(
        [union(masks) for masks in parts.values()],
        shape,
        classes=list(classes.values()),
        files=(str(path),),
        smaller_on_top=False,
        invalid=invalid,
    )


def _read_shape(
    entry: JsonField, shape: tuple[int, int], class_names: tuple[str, ...]
) -> tuple[Hashable, int, Cutout]:
    """Returns a key of the instance that a shape belongs to, its class, and the mask of the shape."""
    mask = _rasterize(entry, shape)
    label, group = entry.get("label", str), entry.optional("group_id", int)
    index = IGNORE if label == IGNORED else class_of(label, class_names, f"{entry.where}: label")
    # `where` differs for every shape.
    return (label, entry.where if group is None else group), index, mask


def _outline(entry: JsonField) -> tuple[str, str, np.ndarray]:
    """Returns the type of a shape, Pillow's method for it, and its points [V, 2], as many as the type has."""
    kind = entry.fields.get("shape_type", "polygon")
    points = coordinates(entry.fields.get("points"), entry, "points")
    method = METHODS.get(kind) if isinstance(kind, str) else None
    if method is None:
        raise entry.error("shape_type", f"is {kind!r}, which covers no area")
    if entry.fields.get("rotation"):
        # The points are those before a turn about an unknown centre.
        raise entry.error("rotation", f"is {entry.fields['rotation']!r}; draw the shape as a polygon")
    if kind == "rectangle" and len(points) == 4:
        # Corners of an upright rectangle have two values of x and two of y.
        if all(len(np.unique(values)) <= 2 for values in points.T):
            points = np.stack([points.min(axis=0), points.max(axis=0)])
        else:
            method = "polygon"
    if len(points) < 3 if method == "polygon" else len(points) != 2:
        raise entry.error("points", f"has {len(points)} points, which make no {kind}")
    return kind, method, points


def _rasterize(entry: JsonField, shape: tuple[int, int]) -> Cutout:
    kind, method, points = _outline(entry)
    check_inside(points, shape, max(shape) if kind in TURNED else MARGIN, entry, "points")
    if kind == "mask":
        return _decode_mask(entry, points, shape)
    if kind == "circle":
        centre, rim = points
        radius = math.dist(centre, rim)
        points = np.stack([centre - radius, centre + radius])
        if radius > max(shape):
            raise entry.error("points", f"make a circle of radius {radius:g}, larger than the image")
    elif method == "rectangle":
        points = np.sort(points, axis=0)
    # The canvas is the box of the shape, shifted by full pixels.
    low = np.floor(points.min(axis=0)).astype(int) - 1
    width, height = (np.ceil(points.max(axis=0)).astype(int) - low + 2).tolist()
    canvas = Image.new("1", (width, height))
    shifted = [tuple(point) for point in (points - low).tolist()]
    getattr(ImageDraw.Draw(canvas), method)(shifted, fill=1, outline=1)
    return Cutout.of(np.asarray(canvas)).moved(int(low[1]), int(low[0]), shape)


def _decode_mask(entry: JsonField, points: np.ndarray, shape: tuple[int, int]) -> Cutout:
    """Decodes a PNG of 0 and 1 in base64 that spans the box from the first to the second point."""
    (left, top), (right, bottom) = points.astype(int).tolist()
    try:
        content = base64.b64decode(entry.get("mask", str), validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            if picture.size != (right - left + 1, bottom - top + 1):
                raise entry.error("mask", f"has the size {picture.size}, which is not that of its points")
            mask = np.asarray(picture.convert("L")) > 0
    except InputError:
        raise
    except Exception as error:
        raise entry.error("mask", f"cannot be read ({error})") from error
    return Cutout.of(mask).moved(top, left, shape)
