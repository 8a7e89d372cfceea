import numpy as np
import pytest

from segjax.errors import InputError
from segjax.inference.neighbours import Radius, count_neighbours


def test_counts_are_those_of_all_pairs():
    points = np.random.default_rng(0).uniform(0, 50, (40, 2))
    distances = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    expected = (distances <= 12).sum(1) - 1
    assert expected.max() > 3
    np.testing.assert_array_equal(count_neighbours(points, 12), expected)
    assert count_neighbours(points[:0], 12).tolist() == []


def test_a_radius_is_in_micrometres_or_pixels():
    assert Radius.parse("10um").in_pixels(0.5, "a.png") == Radius.parse("10").in_pixels(0.5, "a.png") == 20
    assert Radius.parse("12.5px").in_pixels(None, "a.png") == 12.5
    assert Radius.parse("12.5px").column == "neighbours_within_12.5_px"
    with pytest.raises(
        InputError, match=r"a\.png states no pixel size.*--pixel_size, or .*--neighbours=10px"
    ):
        Radius.parse("10um").in_pixels(None, "a.png")


@pytest.mark.parametrize("text", ["0", "-3px", "five", "10 miles", "", "1e999"])
def test_an_impossible_radius_is_refused(text):
    with pytest.raises(InputError, match=r"--neighbours=.*such as 20um or 40px"):
        Radius.parse(text)
