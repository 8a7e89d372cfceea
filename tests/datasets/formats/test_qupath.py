import json
import re

import pytest

from segjax.datasets.formats import open_annotations
from segjax.errors import InputError
from tests.datasets.formats.faults import fault

SHAPE = (20, 30)


def square(left, top, size):
    right, bottom = left + size, top + size
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def feature(coordinates, kind="Polygon", name=None, **properties):
    if name is not None:
        properties["classification"] = {"name": name, "color": [1, 2, 3]}
    return {
        "type": "Feature",
        "id": "PathAnnotationObject",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": properties,
    }


def opened(tmp_path, value, **options):
    (tmp_path / "a.geojson").write_text(value if isinstance(value, str) else json.dumps(value))
    return open_annotations(tmp_path, **options)


def read(tmp_path, *features, **options):
    return opened(tmp_path, {"type": "FeatureCollection", "features": list(features)}, **options).read(
        "a", SHAPE
    )


def test_holes_and_parts(tmp_path):
    drawing = read(
        tmp_path,
        feature([square(2, 2, 8), square(4, 4, 3)]),
        feature([[square(12, 2, 2)], [square(16, 2, 4), square(17, 3, 1)]], "MultiPolygon"),
    )
    assert (drawing.labels == 1).sum() == 64 - 9
    assert drawing.labels[5, 5] == 0
    assert (drawing.labels == 2).sum() == 4 + 15
    assert drawing.classes == {1: 1, 2: 1}


@pytest.mark.parametrize("wrap", ["collection", "list", "single"])
def test_every_way_of_saving_one_feature(tmp_path, wrap):
    one = feature([square(2, 2, 8)], name="Tumor")
    value = {"collection": {"type": "FeatureCollection", "features": [one]}, "list": [one], "single": one}[
        wrap
    ]
    annotations = opened(tmp_path, value)
    assert annotations.class_names == ("background", "Tumor")
    assert (annotations.read("a", SHAPE).labels > 0).sum() == 64


def test_a_feature_without_class_among_some_with_one_is_named(tmp_path):
    first, second = feature([square(2, 2, 8)], name="b"), feature([square(2, 2, 8)], name="a")
    annotations = opened(tmp_path, [first, second])
    assert annotations.class_names == ("background", "a", "b")
    assert annotations.read("a", SHAPE).classes == {2: 1}
    with pytest.raises(InputError, match=r"features\[2\]: classification is missing; the classes are a, b"):
        read(tmp_path, first, second, feature([square(2, 2, 8)]))


def test_outlines_outside_are_counted_and_those_far_away_left_out(tmp_path):
    inside = [feature([square(2 + 4 * index, 2, 3)]) for index in range(6)]
    drawing = read(tmp_path, feature([square(26, 16, 8)]), feature([square(40, 30, 8)]), *inside)
    assert (drawing.labels == 1).sum() == 16
    assert drawing.num_hidden == 1
    said = fault(read, tmp_path, feature([square(62, 2, 8)]), *inside)
    assert re.search(r"features\[0\]: geometry: coordinates has \(62, 2\), outside the image", said)


def test_regions_in_which_cells_were_looked_for_are_not_taken_for_cells(tmp_path):
    region = feature([square(0, 0, 20)], objectType="annotation")
    with pytest.raises(
        InputError, match=r"a\.geojson mixes annotations with objects of type cell, detection"
    ):
        read(
            tmp_path,
            region,
            feature([square(2, 2, 4)], objectType="cell"),
            feature([square(2, 2, 4)], objectType="detection"),
        )
    assert read(tmp_path, feature([square(2, 2, 4)], objectType="cell")).labels.any()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (feature([square(2, 2, 4)], "Point"), "type is 'Point', which covers no area"),
        (feature(None), "coordinates is not a list of rings"),
        (feature([]), "coordinates is not a list of rings"),
        (feature([3]), "coordinates is not a list of points"),
        (feature([[[1, 2], [3, 4]]]), "coordinates has a ring of 2 points"),
        (feature([[[1, 2], [3, 4], [float("inf"), 1]]]), "coordinates holds NaN or an infinite"),
        (feature([[[1, 2], [3, 4], [None, 1]]]), "coordinates is not a list of numbers"),
        ({"type": "Feature"}, "geometry is missing"),
        ({"type": "Something"}, "type is not Feature"),
        (feature([square(2, 2, 4)], name=3), "name is 3, not a string"),
    ],
)
def test_a_broken_feature_is_named(tmp_path, bad, message):
    said = fault(read, tmp_path, feature([square(2, 2, 4)]), bad)
    assert re.search(rf"a\.geojson: features\[1\]:.* {message}", said)


def test_objects_inside_a_region_are_the_cells(tmp_path):
    cells = [feature([square(left, 4, 3)], name="Tumor", objectType="detection") for left in (3, 8, 13)]
    region = feature([square(1, 1, 18)], objectType="annotation", childObjects=cells)
    drawing = read(tmp_path, region)
    assert drawing.labels.max() == 3
    assert (drawing.labels > 0).sum() == 27
    nested = feature([square(0, 0, 20)], childObjects=[region])
    assert read(tmp_path, nested).labels.max() == 3


def test_classes_of_several_parts_and_classes_to_ignore(tmp_path):
    derived = feature([square(2, 2, 4)])
    derived["properties"]["classification"] = {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}
    features = [derived, feature([square(10, 2, 4)], name="Ignore*")]
    annotations = opened(tmp_path, {"type": "FeatureCollection", "features": features})
    assert annotations.class_names == ("background", "Tumor: Positive")
    drawing = annotations.read("a", SHAPE)
    assert drawing.labels.max() == 1
    assert drawing.ignore.sum() == 16
    assert drawing.ignore[3, 11]


@pytest.mark.parametrize(("scale", "offset"), [(2, 0), (1, 24)])
def test_outlines_of_another_magnification_or_origin_are_refused(tmp_path, scale, offset):
    squares = [(2, 2), (12, 2), (22, 2), (2, 12), (12, 12), (22, 12)]
    features = [feature([square(scale * x + offset, scale * y, 4 * scale)]) for x, y in squares]
    with pytest.raises(InputError, match="of 6 outlines lie outside the image of 20 x 30") as error:
        read(tmp_path, *features)
    assert error.value.kind == "size_mismatch"


def test_outlines_on_several_planes_are_refused(tmp_path):
    planes = [{"c": -1, "z": 0, "t": 0}, {"c": 2, "z": 0, "t": 0}, {"c": -1, "z": 7, "t": 0}, None]
    features = [feature([square(2 + 5 * index, 2, 4)]) for index in range(4)]
    for one, plane in zip(features, planes, strict=True):
        one["geometry"]["plane"] = plane
    assert read(tmp_path, *features[:2], features[3]).labels.max() == 3
    assert read(tmp_path, features[2]).labels.max() == 1
    with pytest.raises(InputError, match="has outlines on several planes of a stack; export one file"):
        read(tmp_path, *features)
    del features[1]
    features[2]["geometry"]["plane"] = "all"
    assert "plane is 'all', not an object" in fault(read, tmp_path, features[0], features[2])
