import numpy as np
import pytest

from segjax.classical import METHODS, make_method
from segjax.classical.scale import at_scale, estimate_diameter
from segjax.classical.settings import REFERENCE_DIAMETER, KMeans, Naive, Radius, Watershed
from segjax.errors import InputError


def discs(radius):
    """Returns an image [H, W] of 3 x 4 discs, 0 and 1."""
    side = int(3.2 * radius) + 2
    y, x = np.mgrid[: 3 * side, : 4 * side] % side - side // 2
    return (np.hypot(y, x) <= radius).astype(np.float32)


@pytest.mark.parametrize("radius", [4, 8, 13, 30])
def test_the_diameter_of_discs_is_estimated(radius):
    # The distance to the background is smoothed, which lowers its peak in small discs.
    assert estimate_diameter(discs(radius)) == pytest.approx(2 * radius + 1, rel=0.25)


def test_without_a_cell_the_settings_are_unchanged():
    assert estimate_diameter(np.zeros((32, 32), np.float32)) == REFERENCE_DIAMETER
    assert at_scale(Naive(), np.zeros((32, 32), np.float32)) == Naive()


def test_lengths_grow_with_the_diameter_and_areas_with_its_square():
    cells = discs(8)
    wide = at_scale(Watershed(diameter=2 * REFERENCE_DIAMETER, smoothing=1.5, h=0.6, window=51), cells)
    assert (wide.smoothing, wide.h, wide.window, wide.sigma) == (3.0, 1.2, 102, 1.0)
    assert (wide.min_area, wide.max_hole) == (160, 400)
    assert (wide.gamma, wide.threshold_fraction) == (Watershed().gamma, Watershed().threshold_fraction)
    narrow = at_scale(Radius(diameter=REFERENCE_DIAMETER / 3, min_area=9, min_radius=3.0), cells)
    assert (narrow.min_area, narrow.min_radius, narrow.eps) == (1, 1.0, Radius().eps)
    assert at_scale(KMeans(diameter=1e-3, min_area=0), cells).min_area == 0


def test_integers_are_lengths_as_floats_are():
    cells, diameter = discs(8), REFERENCE_DIAMETER / 3
    whole = at_scale(Watershed(diameter=diameter, sigma=1, smoothing=2, h=1), cells)
    assert whole == at_scale(Watershed(diameter=diameter, sigma=1.0, smoothing=2.0, h=1.0), cells)
    assert whole.sigma == pytest.approx(1 / 3)


def test_the_factor_is_limited():
    assert at_scale(Naive(diameter=1e6, smoothing=1.0), discs(8)).smoothing == 4
    assert at_scale(Naive(diameter=1e-6, smoothing=1.0), discs(8)).smoothing == 0.25


@pytest.mark.parametrize("radius", [3, 8, 30])
@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_fit_small_and_large_cells(name, radius):
    assert make_method(name)(discs(radius)[..., None]).num_instances == 12


def test_a_known_diameter_replaces_the_estimate():
    cells = discs(3)[..., None]
    # An area of 29 pixels is below the minimum for cells of that size.
    assert make_method("watershed", diameter=100.0)(cells).num_instances == 0
    assert make_method("watershed").with_diameter(7.0)(cells).num_instances == 12
    with pytest.raises(InputError, match="diameter is -1"):
        make_method("watershed", diameter=-1.0)
