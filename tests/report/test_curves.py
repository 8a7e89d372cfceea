import math
import re
from xml.etree import ElementTree

import pytest

from segjax.report.curves import line_chart, ticks


def parsed(points, name="loss"):
    return ElementTree.fromstring(line_chart(points, name=name))


def places(element):
    return [tuple(map(float, place.split(","))) for place in element.get("points").split()]


def test_steps_go_right_and_values_go_up():
    (curve,) = parsed([(0, 4.0), (5, 2.0), (10, 1.0)]).findall("polyline")
    (x0, y0), (x1, y1), (x2, y2) = places(curve)
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y1 - y0 == pytest.approx(2 * (y2 - y1), abs=0.2)
    assert 0 <= y0 < y2 <= 260


def test_what_is_not_finite_breaks_the_curve():
    chart = parsed([(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.5), (4, math.inf), (5, 1.0), (6, 2.0)])
    assert [len(places(part)) for part in chart.findall("polyline")] == [2, 2]
    assert len(chart.findall("circle")) == 1
    assert line_chart([(0, math.nan)], name="loss") == ""
    assert line_chart([], name="loss") == ""


def test_one_outburst_does_not_flatten_the_rest():
    chart = parsed([(step, 1e9 if step == 50 else step / 200) for step in range(200)])
    heights = [y for _, y in places(chart.find("polyline"))]
    assert max(heights) - min(heights) > 200
    assert "1e+09" not in [text.text for text in chart.findall("text")]


def test_a_constant_and_a_single_value_can_be_drawn():
    for points in ([(0, 0.0), (1, 0.0)], [(0, 3.0), (1, 3.0)], [(7, 2.0)]):
        assert not re.search("nan|inf", line_chart(points, name="loss"))


def test_the_name_is_escaped():
    assert parsed([(0, 1.0), (1, 2.0)], name='"><script>').get("aria-label").startswith('"><script>')


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 600, [0, 200, 400, 600]),
        (0.13, 0.34, [0.15, 0.2, 0.25, 0.3]),
        (-3, 1, [-3, -2, -1, 0, 1]),
        (4, 4, [4]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)
