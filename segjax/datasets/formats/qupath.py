"""QuPath: one GeoJSON file for each image, with pixel edges at integers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.datasets.formats.annotation import (
    Annotations,
    RawAnnotation,
    class_of,
    names_in,
    read_valid,
)
from segjax.datasets.formats.documents import INVALID, JsonField, coordinates, load_json
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.datasets.formats.outlines import check_inside, fill, rasterize_outlines, union
from segjax.errors import InputError
from segjax.segmentation import Cutout
from segjax.typing import IGNORE

SUFFIXES = (".geojson", ".json")
MAX_BYTES = 2**28
MAX_DEPTH = 8
# QuPath ignores classes whose names end like this in its own measurements, such as Ignore* and Region*.
IGNORED_END = "*"


def open_qupath(source: AnnotationSource) -> Annotations:
    """Classes are the classifications in alphabetical order; where two overlap the smaller is on top.

    The file does not contain the size of its image. An outline that leaves the image by more than the size of
    the image is an error; one that lies outside counts as hidden. Outlines on several planes of a stack
    are refused.
    """
    names = source.class_names or source.names(names_in(source.files(SUFFIXES), _classifications))
    return OneFilePerImage(source.index(SUFFIXES), names, partial(_read_file, class_names=names))


def is_feature(value: Any) -> bool:
    """Returns whether a parsed JSON value is a GeoJSON feature."""
    return isinstance(value, dict) and value.get("type") == "Feature"


def _features(path: Path) -> list[JsonField]:
    """Reads a feature collection, a list of features, or a single feature.

    An object with `childObjects` is the region in which QuPath detected them: its children are the cells.
    """
    value = load_json(path, max_bytes=MAX_BYTES)
    if is_feature(value):
        value = [value]
    if isinstance(value, list):
        value = {"features": value}
    features = JsonField.of(value, str(path)).children("features", strict=False)
    return [child for feature in features for child in _innermost(feature)]


def _innermost(feature: JsonField, depth: int = 0) -> Iterator[JsonField]:
    properties = _properties(feature)
    if not properties.fields.get("childObjects"):
        yield feature
        return
    if depth == MAX_DEPTH:
        raise properties.error("childObjects", f"is nested more than {MAX_DEPTH} times")
    for child in properties.children("childObjects", strict=False):
        yield from _innermost(child, depth + 1)


def _properties(feature: JsonField) -> JsonField:
    """Returns the properties of a feature; none if they are no object, which `_read_feature` refuses."""
    properties = feature.fields.get("properties")
    return JsonField(f"{feature.where}: properties", properties if isinstance(properties, dict) else {})


def _classification(feature: JsonField) -> str | None:
    properties = _properties(feature)
    if properties.optional("classification", dict) is None:
        return None
    classification = properties.child("classification")
    # QuPath 0.4 and later write the parts of a derived class, such as Tumor: Positive.
    names = classification.optional("names", list)
    if names and all(isinstance(name, str) for name in names):
        return ": ".join(names)
    return classification.get("name", str)


def _classifications(path: Path) -> list[str]:
    # The class of a mark that covers no area, such as a scale bar, is no class of cells.
    valid, _ = read_valid(_features(path), lambda feature: (_geometry(feature), _classification(feature)))
    return [name for _, name in valid if name and not name.endswith(IGNORED_END)]


def _class_of(feature: JsonField, class_names: tuple[str, ...]) -> int:
    name = _classification(feature)
    if name is not None and name.endswith(IGNORED_END):
        return IGNORE
    return class_of(name, class_names, f"{feature.where}: classification")


def _read_file(path: Path, shape: tuple[int, int], class_names: tuple[str, ...]) -> RawAnnotation:
    features = _features(path)
    types = {str(_properties(feature).fields.get("objectType") or "") for feature in features} - {""}
    if "annotation" in types and len(types) > 1:
        # The annotation is most often the region in which QuPath detected cells.
        other = ", ".join(sorted(types - {"annotation"}))
        raise InputError(
            f"{path} mixes annotations with objects of type {other}; export only those that are cells",
            kind=INVALID,
        )
    outlines, invalid = read_valid(
        features, lambda feature: _Outline(*_geometry(feature), _class_of(feature, class_names))
    )
    if len({outline.plane for outline in outlines}) > 1:
        raise InputError(
            f"{path} has outlines on several planes of a stack; export one file for each plane", kind=INVALID
        )
    return rasterize_outlines(outlines, shape, path, invalid=invalid)


class _Outline(NamedTuple):
    """The geometry of a feature, its plane, its polygons, each a list of rings [V, 2], and its class."""

    geometry: JsonField
    plane: tuple[int, int]
    polygons: list[list[np.ndarray]]
    class_index: int

    @property
    def rings(self) -> list[np.ndarray]:
        return [ring for polygon in self.polygons for ring in polygon]

    def rasterize(self, shape: tuple[int, int]) -> Cutout:
        for ring in self.rings:
            check_inside(ring, shape, max(shape), self.geometry, "coordinates")
        return union([fill(polygon, shape) for polygon in self.polygons])


def _geometry(feature: JsonField) -> tuple[JsonField, tuple[int, int], list[list[np.ndarray]]]:
    """Returns the geometry of a feature, its depth and time, and its polygons, lists of rings [V, 2]."""
    if not is_feature(feature.fields):
        raise feature.error("type", "is not Feature")
    feature.optional("properties", dict)
    geometry = feature.child("geometry")
    polygons = [
        [coordinates(ring, geometry, "coordinates") for ring in rings] for rings in _polygons(geometry)
    ]
    shortest = min(len(ring) for rings in polygons for ring in rings)
    if shortest < 3:
        raise geometry.error("coordinates", f"has a ring of {shortest} points")
    plane = JsonField(f"{geometry.where}: plane", geometry.optional("plane", dict) or {})
    return geometry, (plane.optional("z", int) or 0, plane.optional("t", int) or 0), polygons


def _polygons(geometry: JsonField) -> list[Any]:
    """Returns the polygons of a geometry, each a list of rings."""
    kind, polygons = geometry.get("type", str), geometry.fields.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise geometry.error("type", f"is {kind!r}, which covers no area")
    if kind == "Polygon":
        polygons = [polygons]
    if (
        not isinstance(polygons, list)
        or not polygons
        or not all(isinstance(rings, list) and rings for rings in polygons)
    ):
        raise geometry.error("coordinates", "is not a list of rings")
    return polygons
