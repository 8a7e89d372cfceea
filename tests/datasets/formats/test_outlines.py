import numpy as np
import pytest
from scipy import ndimage

from segjax.datasets.formats.documents import JsonField
from segjax.datasets.formats.outlines import check_inside, check_most_inside, fill, fill_ellipse, union
from segjax.errors import InputError
from segjax.segmentation import Cutout
from tests.datasets.formats.written import outlines


def whole(cutout, shape):
    drawn = np.zeros(shape, bool)
    drawn[cutout.window] = cutout.mask
    return drawn


def test_a_triangle_by_hand():
    # Its left edge goes through the centres of the first column, the other through the diagonal's.
    triangle = np.array([[0.5, 0.0], [4.5, 4.0], [0.5, 4.0]])
    np.testing.assert_array_equal(
        whole(fill([triangle], (5, 5)), (5, 5)).astype(int),
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]],
    )


def test_a_pixel_is_inside_if_its_centre_is():
    rng = np.random.default_rng(0)
    shape = (23, 29)
    for _ in range(30):
        ring = rng.uniform(-8, 35, (rng.integers(3, 9), 2))
        after = np.roll(ring, -1, axis=0)
        expected = np.zeros(shape, bool)
        for y, x in np.ndindex(shape):
            for (x0, y0), (x1, y1) in zip(ring, after, strict=True):
                if (y0 <= y + 0.5) != (y1 <= y + 0.5):
                    expected[y, x] ^= x0 + (y + 0.5 - y0) / (y1 - y0) * (x1 - x0) <= x + 0.5
        np.testing.assert_array_equal(whole(fill([ring], shape), shape), expected)


def test_outlines_along_pixel_edges_give_back_the_pixels():
    rng = np.random.default_rng(0)
    for sigma in (0, 1, 3):
        mask = ndimage.gaussian_filter(rng.normal(size=(40, 50)), sigma) > 0
        rings = [np.array(ring, float) for ring in outlines(mask)]
        np.testing.assert_array_equal(whole(fill(rings, mask.shape), mask.shape), mask)


def test_areas_that_share_their_lines_share_no_pixel_and_leave_none_out():
    rng = np.random.default_rng(0)
    # A fan of triangles around a point, some vertices on pixel centres and some on corners.
    for _ in range(20):
        around = np.array([[0, 0], [6, 0.5], [12.5, 0], [16, 7.5], [16, 16], [8.5, 16], [0, 16], [0, 3]])
        centre = rng.integers(4, 24, 2) / 2
        covered = np.zeros((16, 16), int)
        for a, b in zip(around, np.roll(around, -1, axis=0), strict=True):
            covered += whole(fill([np.array([centre, a, b])], (16, 16)), (16, 16))
        whole_area = whole(fill([around], (16, 16)), (16, 16))
        np.testing.assert_array_equal(covered, whole_area)


def test_what_covers_no_pixel_is_empty():
    small = np.array([[1.1, 1.1], [1.2, 1.1], [1.2, 1.2]])
    for rings in ([], [small], [small + 100], [small - 100], [small[:1]]):
        assert fill(rings, (5, 5)).mask.size == 0
    assert fill_ellipse(np.array([[1.0, 1], [1, 4]]), (5, 5)).mask.size == 0


def test_a_disc_has_its_area_and_is_cut_off_at_the_border():
    disc = fill_ellipse(np.array([[10.0, 20], [50, 60]]), (80, 80))
    assert disc.mask.sum() == pytest.approx(np.pi * 20**2, rel=0.01)
    assert (disc.top, disc.left, disc.mask.shape) == (20, 10, (40, 40))
    assert fill_ellipse(np.array([[-20.0, 20], [20, 60]]), (80, 80)).mask.shape == (40, 20)


def test_a_line_that_would_take_all_memory_is_refused():
    zigzag = np.zeros((9000, 2))
    zigzag[::2, 1] = 1000
    with pytest.raises(InputError, match=r"a: points draws a line of 8999000 pixels, more than 4194304"):
        check_inside(zigzag, (1000, 1000), 0, JsonField("a", {}), "points")
    check_inside(zigzag[:4000], (1000, 1000), 0, JsonField("a", {}), "points")


def test_parts_are_joined_where_they_are():
    parts = [
        Cutout(1, 2, np.ones((2, 2), bool)),
        Cutout(0, 0, np.zeros((0, 0), bool)),
        Cutout(3, 5, np.ones((1, 1), bool)),
    ]
    drawn = whole(union(parts), (6, 7))
    assert drawn.sum() == 5
    assert drawn[1:3, 2:4].all()
    assert drawn[3, 5]
    assert union([]).mask.size == 0


def test_lines_do_not_count_as_outlines_outside():
    inside, line, outside = (2, 2, 6, 6), (3, 3, 9, 3), (20, 20, 26, 26)
    check_most_inside([np.array(box) for box in (inside, inside, line, line)], (10, 10), "a")
    check_most_inside([np.array(line)], (10, 10), "a")
    check_most_inside([], (10, 10), "a")
    with pytest.raises(InputError, match="a: 1 of 2 outlines lie outside the image of 10 x 10"):
        check_most_inside([np.array(box) for box in (inside, outside, line, line)], (10, 10), "a")
