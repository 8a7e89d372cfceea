"""QuPath: one GeoJSON for each image, pixel edges at whole numbers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from segjax.datasets.formats.classes import class_of, names_in
from segjax.datasets.formats.documents import JsonField, coordinates, load
from segjax.datasets.formats.drawing import Annotations, RawAnnotation, rasterize_instances
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.datasets.formats.outlines import check_inside, fill, union
from segjax.errors import InputError
from segjax.segmentation import Cutout

ENDINGS = (".geojson", ".json")
MAX_BYTES = 2**28


def open_qupath(place: AnnotationSource) -> Annotations:
    """Classes are the classifications in the order of the alphabet; where two overlap the smaller is on top.

    The file does not say how large its image was; an outline that leaves the image by more than the image's
    own size is refused, one that lies outside is counted as unseen.
    """
    index = place.index(ENDINGS)
    names = place.class_names or place.names(names_in(place.files(ENDINGS), _classifications))
    return OneFilePerImage(index, names, partial(_draw, class_names=names))


def is_feature(value: Any) -> bool:
    """Whether a parsed JSON value is an object that GeoJSON calls a feature."""
    return isinstance(value, dict) and value.get("type") == "Feature"


def _features(path: Path) -> list[JsonField]:
    """The features of a collection, of a list, or of a file that is a single one."""
    value = load(path, max_bytes=MAX_BYTES)
    if isinstance(value, dict) and not is_feature(value):
        value = JsonField.of(value, str(path)).get("features", list)
    features = value if isinstance(value, list) else [value]
    entries = []
    for index, feature in enumerate(features):
        entry = JsonField.of(feature, f"{path}: features[{index}]")
        if not is_feature(feature):
            raise entry.complaint("type", "is not Feature")
        entries.append(entry)
    return entries


def _properties(feature: JsonField) -> JsonField:
    return JsonField(f"{feature.where}: properties", feature.optional("properties", dict) or {})


def _classification(feature: JsonField) -> str | None:
    properties = _properties(feature)
    classification = properties.optional("classification", dict)
    return None if classification is None else JsonField(properties.where, classification).get("name", str)


def _classifications(path: Path) -> list[str]:
    return [name for feature in _features(path) if (name := _classification(feature))]


def _draw(path: Path, shape: tuple[int, int], class_names: tuple[str, ...]) -> RawAnnotation:
    features = _features(path)
    kinds = {_properties(feature).optional("objectType", str) or "" for feature in features} - {""}
    if "annotation" in kinds and len(kinds) > 1:
        # Most often the annotation is the region in which QuPath looked for cells.
        other = ", ".join(sorted(kinds - {"annotation"}))
        raise InputError(
            f"{path} mixes annotations with objects of type {other}; export only those that are cells"
        )
    classes = [
        class_of(_classification(feature), class_names, f"{feature.where}: classification")
        for feature in features
    ]
    return rasterize_instances(
        [_cutout(feature, shape) for feature in features], shape, classes=classes, files=(str(path),)
    )


def _cutout(feature: JsonField, shape: tuple[int, int]) -> Cutout:
    geometry = JsonField(f"{feature.where}: geometry", feature.get("geometry", dict))
    kind, polygons = geometry.get("type", str), geometry.fields.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise geometry.complaint("type", f"is {kind!r}, which covers no area")
    if kind == "Polygon":
        polygons = [polygons]
    if not isinstance(polygons, list) or not all(isinstance(rings, list) and rings for rings in polygons):
        raise geometry.complaint("coordinates", "is not a list of rings")
    parts = []
    for rings in polygons:
        lines = [coordinates(ring, geometry, "coordinates") for ring in rings]
        for line in lines:
            if len(line) < 3:
                raise geometry.complaint("coordinates", f"has a ring of {len(line)} points")
            check_inside(line, shape, max(shape), geometry, "coordinates")
        parts.append(fill(lines, shape))
    return union(parts)
