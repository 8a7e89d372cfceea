import io
import math

import numpy as np
import pytest
from PIL import Image

from segjax.report.charts import LINE_COLOUR, bars, histogram, line_chart


def picture(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_the_same_values_give_the_same_bytes():
    values = {"nucleus": [3.0, 4.0, 400.0], "rod": [1.0]}
    first, second = (histogram(values, title="Size", unit="pixels") for _ in range(2))
    assert first == second
    assert first != histogram({**values, "rod": [2.0]}, title="Size", unit="pixels")


def test_a_kind_has_the_colour_of_its_class():
    drawn = picture(bars({"nucleus": 3, "rod": 5}, title="Classes", colours={"nucleus": 1, "rod": 2}))
    assert (drawn == (230, 159, 0)).all(-1).sum() > 100
    assert (drawn == (86, 180, 233)).all(-1).sum() > 100


def test_nothing_and_equal_values_are_drawn():
    for values in ({}, {"a": []}, {"a": [5.0, 5.0]}):
        assert picture(histogram(values, title="t", unit="u")).shape[-1] == 3
    assert picture(bars({}, title="t")).shape[-1] == 3


def test_dollar_signs_in_names_are_not_formulas():
    values = {"$a$": [1.0, 2.0], r"$\frac{$": [2.0, 3.0]}
    assert picture(histogram(values, title="$", unit="u")).shape[-1] == 3
    assert picture(bars(dict.fromkeys(values, 1.0), title="t")).shape[-1] == 3


def curve(points):
    """Rows and columns of the pixels of a curve."""
    colour = [int(LINE_COLOUR[start : start + 2], 16) for start in (1, 3, 5)]
    return np.nonzero((picture(line_chart(points)) == colour).all(-1))


def test_steps_go_right_and_values_go_up():
    rows, columns = curve([(0, 4.0), (5, 2.0), (10, 1.0)])
    left, middle, right = (
        rows[columns == column].mean() for column in np.quantile(columns, [0, 0.5, 1]).round()
    )
    assert left < middle < right
    assert middle - left > 1.5 * (right - middle)


def test_values_that_are_not_finite_break_the_curve():
    points = [(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.5), (4, math.inf), (5, 1.0), (6, 2.0)]
    columns = np.unique(curve(points)[1])
    assert len(np.split(columns, np.flatnonzero(np.diff(columns) > 5) + 1)) == 3
    assert line_chart([(0, math.nan)]) is None
    assert line_chart([]) is None


def test_one_spike_does_not_flatten_the_curve():
    rows, _ = curve([(step, 1e9 if step == 50 else step / 200) for step in range(200)])
    height = picture(line_chart([(0, 1.0)])).shape[0]
    # The lower half of the values takes about half of the height.
    assert 0.3 < (rows < np.median(np.unique(rows))).mean() < 0.7
    assert np.ptp(rows) > height / 2


@pytest.mark.parametrize("points", [[(0, 0.0), (1, 0.0)], [(0, 3.0), (1, 3.0)], [(7, 2.0)]])
def test_a_constant_and_a_single_value_can_be_drawn(points):
    assert len(curve(points)[0])
