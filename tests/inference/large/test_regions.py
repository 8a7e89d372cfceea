"""Parts of large images."""

import json

import numpy as np
import pytest

from segjax.data.preprocess import Preprocessing
from segjax.errors import InputError
from segjax.inference.large import regions
from segjax.inference.large.grid import Box
from segjax.inference.large.intensities import measure_intensities
from tests.data.test_lazy import Array


def write(path, *rings):
    polygons = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
    path.write_text(json.dumps({"type": "GeometryCollection", "geometries": polygons}))
    return path


@pytest.mark.parametrize(
    "ring",
    [
        [[10, 7], [90, 7], [10, 7]],
        [[0.5, 0.25], [30.5, 20.25], [60.5, 40.25], [0.5, 0.25]],
        [[4, 5], [4, 5], [4, 5]],
    ],
    ids=["row", "slope", "point"],
)
def test_a_polygon_without_area_is_refused(tmp_path, ring):
    path = write(tmp_path / "a.geojson", [[0, 0], [9, 0], [9, 9]], ring)
    with pytest.raises(InputError, match=r"has a polygon without area, .* at x=.*: draw it again, or remove"):
        regions.read_polygons(path, (100, 100))
    # The halves of an eight have opposite areas.
    eight = write(tmp_path / "b.geojson", [[0, 0], [8, 8], [8, 0], [0, 8], [0, 0]])
    region = regions.read_polygons(eight, (100, 100))
    assert region.contains(np.array([[1.0, 4], [4, 1]])).tolist() == [True, False]


def test_a_region_without_pixels_is_refused():
    level = Array(np.zeros((12, 1500, 1), np.uint8))
    with pytest.raises(InputError, match="--region holds no pixel of the image that is segmented"):
        measure_intensities(level, [], Preprocessing())


def test_boxes_of_many_polygons_are_computed_once(monkeypatch):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000, (300, 2))
    triangles = [[corner + np.array([[0, 0], [7.5, 0], [3, 9]])] for corner in corners]
    region = regions.Polygons(triangles)
    expected = [regions._bounds(rings) for rings in triangles]
    calls = []
    original = regions._bounds
    monkeypatch.setattr(regions, "_bounds", lambda rings: calls.append(1) or original(rings))
    boxes = [Box(top, left, top + 30, left + 30) for top in range(0, 990, 30) for left in range(0, 990, 30)]
    meets = [region.meets(box) for box in boxes]
    assert meets == [any(bounds.meets(box) for bounds in expected) for box in boxes]
    assert 0 < sum(meets) < len(boxes)
    assert len(calls) == 300
