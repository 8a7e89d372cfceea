"""QuPath: one GeoJSON file for each image, with pixel edges at integers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from segjax.datasets.formats.annotation import (
    Annotations,
    RawAnnotation,
    class_of,
    names_in,
    rasterize_instances,
)
from segjax.datasets.formats.documents import JsonField, coordinates, load_json
from segjax.datasets.formats.layout import AnnotationSource, OneFilePerImage
from segjax.datasets.formats.outlines import check_inside, fill, union
from segjax.errors import InputError
from segjax.segmentation import Cutout

SUFFIXES = (".geojson", ".json")
MAX_BYTES = 2**28


def open_qupath(source: AnnotationSource) -> Annotations:
    """Classes are the classifications in alphabetical order; where two overlap the smaller is on top.

    The file does not contain the size of its image. An outline that leaves the image by more than the size of
    the image is an error; one that lies outside counts as hidden.
    """
    names = source.class_names or source.names(names_in(source.files(SUFFIXES), _classifications))
    return OneFilePerImage(source.index(SUFFIXES), names, partial(_read_file, class_names=names))


def is_feature(value: Any) -> bool:
    """Returns whether a parsed JSON value is a GeoJSON feature."""
    return isinstance(value, dict) and value.get("type") == "Feature"


def _features(path: Path) -> list[JsonField]:
    """Reads a feature collection, a list of features, or a single feature."""
    value = load_json(path, max_bytes=MAX_BYTES)
    if is_feature(value):
        value = [value]
    if isinstance(value, list):
        value = {"features": value}
    features = JsonField.of(value, str(path)).children("features")
    for feature in features:
        if not is_feature(feature.fields):
            raise feature.error("type", "is not Feature")
    return features


def _properties(feature: JsonField) -> JsonField:
    return JsonField(f"{feature.where}: properties", feature.optional("properties", dict) or {})


def _classification(feature: JsonField) -> str | None:
    properties = _properties(feature)
    if properties.optional("classification", dict) is None:
        return None
    return properties.child("classification").get("name", str)


def _classifications(path: Path) -> list[str]:
    return [name for feature in _features(path) if (name := _classification(feature))]


def _read_file(path: Path, shape: tuple[int, int], class_names: tuple[str, ...]) -> RawAnnotation:
    features = _features(path)
    types = {_properties(feature).optional("objectType", str) or "" for feature in features} - {""}
    if "annotation" in types and len(types) > 1:
        # The annotation is most often the region in which QuPath detected cells.
        other = ", ".join(sorted(types - {"annotation"}))
        raise InputError(
            f"{path} mixes annotations with objects of type {other}; export only those that are cells"
        )
    return rasterize_instances(
        [_rasterize(feature.child("geometry"), shape) for feature in features],
        shape,
        classes=[
            class_of(_classification(feature), class_names, f"{feature.where}: classification")
            for feature in features
        ],
        files=(str(path),),
    )


def _rasterize(geometry: JsonField, shape: tuple[int, int]) -> Cutout:
    kind, polygons = geometry.get("type", str), geometry.fields.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise geometry.error("type", f"is {kind!r}, which covers no area")
    if kind == "Polygon":
        polygons = [polygons]
    if not isinstance(polygons, list) or not all(isinstance(rings, list) and rings for rings in polygons):
        raise geometry.error("coordinates", "is not a list of rings")
    parts = []
    for polygon in polygons:
        rings = [coordinates(ring, geometry, "coordinates") for ring in polygon]
        for ring in rings:
            if len(ring) < 3:
                raise geometry.error("coordinates", f"has a ring of {len(ring)} points")
            check_inside(ring, shape, max(shape), geometry, "coordinates")
        parts.append(fill(rings, shape))
    return union(parts)
