import math

from segjax.metrics.scores import Statistics
from segjax.report.table import Table, comparison, per_class
from tests.metrics.test_scores import NAMES, example


def methods():
    truth, prediction = example()
    return {
        "model": Statistics.of(truth, truth, NAMES).compute(),
        "reference": Statistics.of(truth, prediction, NAMES).compute(),
    }


def test_the_table_holds_the_scores():
    table, scores = comparison(methods()), methods()["reference"]
    assert table.rows == (("model",), ("reference",))
    row = dict(zip(table.header[1:], table.values[1], strict=True))
    assert row["IoU"] == scores.iou["nucleus"] == 0.5
    assert row["Dice"] == scores.dice["nucleus"]
    assert row["AP 0.75"] == scores.ap[0.75]
    assert [row[name] for name in ("F1", "PQ", "AJI")] == [scores.f1, scores.pq, scores.aji]


def test_every_class_and_any_class():
    table = per_class(methods())
    assert table.rows == (
        ("nucleus", "model"),
        ("nucleus", "reference"),
        ("micronucleus", "model"),
        ("micronucleus", "reference"),
        ("any class", "model"),
        ("any class", "reference"),
    )
    assert [row[2] for row in table.values] == [1, 0.5, 1, 0.5, 1, 1]
    assert math.isnan(table.values[4][0])


def test_the_best_of_a_group_is_marked_ties_too_and_nothing_without_rival():
    table = Table(
        header=("class", "method", "x", "y", "z"),
        rows=(("a", "one"), ("a", "two"), ("b", "one")),
        values=((0.5, 0.70001, math.nan), (0.25, 0.70002, 0.5), (0.1, 0.1, 0.1)),
    )
    marked = [[table.best(row, column) for column in range(3)] for row in range(3)]
    assert marked == [[True, True, False], [False, True, False], [False, False, False]]
    assert str(table).splitlines() == [
        "class  method       x       y       z",
        "a      one     0.500*  0.700*      -",
        "a      two     0.250   0.700*  0.500",
        "b      one     0.100   0.100   0.100",
    ]


def test_a_table_of_no_method_is_a_header():
    assert str(comparison({})).startswith("method")
    assert per_class({}).rows == ()
