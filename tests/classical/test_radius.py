import numpy as np
import pytest
from skimage.measure import label

from segjax.classical.radius import (
    cluster_circles,
    inscribed_circles,
    power_diagram,
    radius,
)
from segjax.classical.settings import Radius
from segjax.errors import InputError
from segjax.segmentation.split_touching import background_distance
from tests.classical.cells import COUNT, FIELD, discs, fluorescence
from tests.oracles import circles as oracle


def test_the_largest_circle_in_a_disc_is_the_disc():
    foreground = discs((50, 80), (25, 20, 12), (25, 60, 8))
    centres = inscribed_circles(background_distance(foreground), label(foreground), min_radius=6)
    assert {(25, 20), (25, 60)} <= {tuple(centre) for centre in centres}
    # Too small for the radius asked for, it is still a part.
    centres = inscribed_circles(background_distance(foreground), label(foreground), min_radius=11)
    assert sorted(map(tuple, centres)) == [(25, 20), (25, 60)]
    nothing = np.zeros((4, 5), bool)
    assert inscribed_circles(background_distance(nothing), label(nothing), min_radius=1).shape == (0, 2)


@pytest.mark.parametrize("eps", [0.3, 0.6, 1.5])
def test_circles_are_joined_by_chains(eps):
    rng = np.random.default_rng(0)
    centres, radii = rng.uniform(0, 60, (40, 2)), rng.uniform(2, 12, 40)
    clusters, expected = cluster_circles(centres, radii, eps=eps), oracle.cluster_circles(centres, radii, eps)
    same = clusters[:, None] == clusters[None]
    np.testing.assert_array_equal(same, expected[:, None] == expected[None])
    assert 1 < len(np.unique(clusters)) <= 40


def test_a_small_circle_beside_a_large_one_is_a_cell_of_its_own():
    centres = np.array([[0.0, 0], [0, 5], [0, 9]])
    # 5 is half of 10 and within 0.6 of the smaller, 9; 4 is twice the smaller.
    assert cluster_circles(centres, np.array([10.0, 9, 2]), eps=0.6).tolist() == [0, 0, 1]
    assert cluster_circles(np.zeros((0, 2)), np.zeros(0), eps=0.6).shape == (0,)


def test_power_diagram_agrees_with_the_oracle():
    rng = np.random.default_rng(1)
    points, centres = rng.integers(0, 50, (300, 2)), rng.uniform(0, 50, (12, 2))
    radii, parts = rng.uniform(1, 20, 12), rng.integers(1, 4, 300)
    centre_parts = np.arange(12) % 3 + 1
    owner, away = power_diagram(points, centres, radii, parts, centre_parts)
    np.testing.assert_array_equal(owner, oracle.power_diagram(points, centres, radii, parts, centre_parts))
    np.testing.assert_allclose(away, np.linalg.norm(points - centres[owner], axis=1))
    np.testing.assert_array_equal(centre_parts[owner], parts)


def test_the_border_between_two_circles_is_their_radical_axis():
    # x^2 - 25 = (x - 20)^2 - 1 at x = 10.6.
    points = np.array([[0, 10], [0, 11]])
    ones = np.ones(2, int)
    owner, _ = power_diagram(points, np.array([[0.0, 0], [0, 20]]), np.array([5.0, 1]), ones, ones)
    assert owner.tolist() == [0, 1]


def test_growth_fills_the_foreground_or_ends_at_a_circle():
    image = fluorescence(FIELD)
    full = radius(image, Radius())
    capped = radius(image, Radius(growth="circle", alpha=0.9))
    np.testing.assert_array_equal(full.segmentation.labels > 0, full.foreground)
    assert capped.segmentation.num_instances == COUNT
    assert (capped.segmentation.labels > 0).sum() < 0.95 * capped.foreground.sum()
    with pytest.raises(InputError, match="power, circle"):
        Radius(growth="slow")
    with pytest.raises(InputError, match=r"eps is 0\.0"):
        Radius(eps=0.0)
