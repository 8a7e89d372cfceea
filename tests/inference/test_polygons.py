import numpy as np
import pytest
import shapely

from segjax.inference import polygons
from segjax.inference.polygons import trace
from segjax.segmentation.masks import renumber


def shape_of(polygons):
    return shapely.MultiPolygon([(polygon[0], polygon[1:]) for polygon in polygons])


def pixels_in(shape, height, width):
    """The pixels whose centre is inside, by shapely."""
    y, x = np.mgrid[:height, :width] + 0.5
    return shapely.contains_xy(shape, x, y)


def test_a_square_with_a_hole_by_hand():
    labels = np.ones((3, 3), int)
    labels[1, 1] = 0
    ((outline, hole),) = trace(labels)[0]
    assert outline.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    # The hole runs the other way round.
    assert hole.tolist() in ([[1, 2], [2, 2], [2, 1], [1, 1]], [[1, 1], [1, 2], [2, 2], [2, 1]])


def test_pixels_that_touch_at_a_corner_are_two_polygons():
    first, second = trace(np.array([[1, 0], [0, 1]]))[0]
    assert [len(first), len(second)] == [1, 1]


def test_a_hole_that_meets_the_outside_at_a_corner_is_a_hole():
    ((outline, hole),) = trace(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]]))[0]
    assert shapely.Polygon(outline, [hole]).is_valid
    assert [shapely.Polygon(ring).area for ring in (outline, hole)] == [8, 1]


@pytest.mark.parametrize("seed", range(30))
def test_filled_polygons_have_the_pixels_of_their_cell_and_are_valid(seed, monkeypatch):
    # Noise has parts, holes, islands in holes, and lines that meet at corners.
    rng = np.random.default_rng(seed)
    # Few labels make holes that meet the outside, or each other, at a corner.
    labels, count = renumber(rng.integers(0, 2 + seed % 3, rng.integers(1, 14, 2)))
    monkeypatch.setattr(polygons, "GROUP", 2)  # several strips
    traced = trace(labels)
    assert len(traced) == count
    for number, outline in enumerate(traced, 1):
        shape = shape_of(outline)
        assert shape.is_valid, shapely.is_valid_reason(shape)
        np.testing.assert_array_equal(pixels_in(shape, *labels.shape), labels == number)
        # Outlines are to the left of their area in the plane of QuPath, holes to the right.
        assert all(shapely.LinearRing(polygon[0]).is_ccw for polygon in outline)
        assert not any(shapely.LinearRing(hole).is_ccw for polygon in outline for hole in polygon[1:])


def test_an_island_in_a_hole_has_its_own_hole():
    rows, columns = np.indices((9, 9))
    rings = np.maximum(abs(rows - 4), abs(columns - 4))
    labels = np.isin(rings, (4, 2, 1)).astype(int)
    outer, inner = sorted(trace(labels)[0], key=lambda polygon: -np.ptp(polygon[0]))
    assert [len(outer), len(inner)] == [2, 2]
    assert np.ptp(outer[1], axis=0).tolist() == [7, 7]
    assert np.ptp(inner[1], axis=0).tolist() == [1, 1]


def test_no_instance_has_no_polygon():
    assert trace(np.zeros((4, 5), np.int32)) == []
