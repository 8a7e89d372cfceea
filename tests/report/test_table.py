import math

from segjax.evaluation.statistics import Difference
from segjax.evaluation.uncertainty import Uncertainty
from segjax.metrics.scores import Statistics
from segjax.report.table import Cell, Table, comparison, differences, per_class, summary
from tests.evaluation.test_uncertainty import scored
from tests.metrics.test_scores import NAMES, example


def methods():
    truth, prediction = example()
    return {
        "model": Statistics.of(truth, truth, NAMES).compute(),
        "reference": Statistics.of(truth, prediction, NAMES).compute(),
    }


def bold(table):
    return [[cell.is_bold for cell in row] for row in table.cells]


def test_the_table_holds_the_scores():
    table, scores = comparison(methods(), Uncertainty.of(methods())), methods()["reference"]
    assert table.rows == (("model",), ("reference",))
    values = [cell.value for cell in table.cells[1]]
    row = dict(zip(table.header[1:], values, strict=True))
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
    assert [row[4].value for row in table.cells] == [1, 0.5, 1, 0.5, 1, 1]
    assert math.isnan(table.cells[4][2].value)
    assert table.cells[4][0].text == "3"


def test_bold_is_only_what_is_better_beyond_chance():
    low, high, mixed = [1, 3, 8, 4, 6, 2], [2, 4, 9, 5, 7, 3], [3, 2, 9, 4, 5, 3]
    every = {"low": scored(low), "high": scored(high), "mixed": scored(mixed)}
    table = comparison(every, Uncertainty.of(every, "low"))
    column = table.header.index("AP 0.5") - 1
    assert [row[column].is_bold for row in table.cells] == [False, True, False]
    # Worse beyond chance is no reason for bold.
    worse = comparison(every, Uncertainty.of(every, "high"))
    assert not any(row[column].is_bold for row in worse.cells)
    # Nor is a difference that is displayed as +0.000.
    assert Difference(0.001, (0.0004, 0.002), 0.01, 0.001).is_better
    assert not Difference(0.0002, (0.0001, 0.0003), 0.01, 0.001).is_better
    one = {"a": scored([2]), "b": scored([9])}
    assert not any(map(any, bold(comparison(one, Uncertainty.of(one, "a")))))


def test_differences_have_a_sign_an_interval_and_a_test():
    every = {"low": scored([1, 3, 8]), "high": scored([2, 4, 9])}
    table = differences(Uncertainty.of(every, "low"))
    row = table.cells[table.rows.index(("high", "AP 0.5"))]
    assert row[0].text == "+0.100"
    assert row[0].interval_text == "[+0.100, +0.100]"
    assert row[0].is_bold
    assert row[1].text == "0.250"
    assert differences(Uncertainty.of(every)).rows == ()


def test_the_terminal_marks_what_is_bold():
    table = Table(
        header=("class", "method", "x", "y", "z"),
        rows=(("a", "one"), ("b", "two")),
        cells=(
            (Cell(0.5, None, True), Cell(7), Cell(math.nan)),
            (Cell(0.25, (0.1, 0.3)), Cell(12), Cell(-0.5, is_signed=True)),
        ),
    )
    assert str(table).splitlines() == [
        "class  method       x    y        z",
        "a      one     0.500*   7        -",
        "b      two     0.250   12   -0.500",
    ]


def test_the_terminal_states_intervals_and_differences():
    every = {"a": scored([1, 3, 8]), "b": scored([2, 4, 9])}
    lines = summary(every, Uncertainty.of(every, "a")).splitlines()
    assert lines[4] == "95 % intervals over 3 images:"
    assert lines[5].startswith("a: AP 0.5 0.400 [")
    assert lines[7].startswith("b - a: AP 0.5 +0.100 [+0.100, +0.100], PQ +0.")
    assert len(summary({"a": scored([3])}, Uncertainty.of({"a": scored([3])})).splitlines()) == 2


def test_a_table_of_no_method_is_a_header():
    assert str(comparison({}, Uncertainty.of({}))).startswith("method")
    assert per_class({}).rows == ()
