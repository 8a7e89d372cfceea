from segjax.metrics import Scores
from segjax.report.table import Table, as_text, comparison, per_class
from tests.metrics.test_scores import NAMES, example


def metrics():
    truth, prediction = example()
    methods = {"model": Scores.of(truth, truth, NAMES), "reference": Scores.of(truth, prediction, NAMES)}
    return {"split": "test", "methods": {name: scores.compute() for name, scores in methods.items()}}


def test_numbers_are_those_of_the_metrics():
    given, table = metrics(), comparison(metrics())
    assert table.rows == (("model",), ("reference",))
    row = dict(zip(table.header[1:], table.values[1], strict=True))
    scores = given["methods"]["reference"]
    assert row["IoU"] == scores["iou"]["nucleus"] == 0.5
    assert row["Dice"] == scores["dice"]["nucleus"]
    assert row["AP 0.75"] == scores["ap"]["0.75"]
    assert [row[name] for name in ("F1", "PQ", "AJI")] == [scores[name] for name in ("f1", "pq", "aji")]


def test_every_class_and_any_class():
    table = per_class(metrics())
    assert table.rows == (
        ("nucleus", "model"),
        ("nucleus", "reference"),
        ("micronucleus", "model"),
        ("micronucleus", "reference"),
        ("any class", "model"),
        ("any class", "reference"),
    )
    assert [row[2] for row in table.values] == [1, 0.5, 1, 0.5, 1, 1]
    assert table.values[4][0] is None


def test_the_best_of_a_group_is_marked_ties_too_and_nothing_without_rival():
    table = Table(
        header=("class", "method", "x", "y", "z"),
        rows=(("a", "one"), ("a", "two"), ("b", "one")),
        values=((0.5, 0.70001, None), (0.25, 0.70002, 0.5), (0.1, 0.1, 0.1)),
        groups=("a", "a", "b"),
    )
    marked = [[table.best(row, column) for column in range(3)] for row in range(3)]
    assert marked == [[True, True, False], [False, True, False], [False, False, False]]
    assert as_text(table).splitlines() == [
        "class  method       x       y       z",
        "a      one     0.500*  0.700*      -",
        "a      two     0.250   0.700*  0.500",
        "b      one     0.100   0.100   0.100",
    ]
    assert str(table) == as_text(table)


def test_a_table_of_no_method_is_a_header():
    assert as_text(comparison({"methods": {}})).startswith("method")
    assert per_class({"methods": {}}).rows == ()
