import dataclasses
import math

import numpy as np
import pytest

from segjax.evaluation.evaluate import Evaluation
from segjax.metrics.details import DetailOptions
from segjax.metrics.scores import Statistics
from segjax.report import evaluation_tables as tables
from segjax.report.evaluation_charts import score_charts
from segjax.segmentation import Segmentation

NAMES = ("background", "round", "flat")


def image(true_ids, ids, name, group):
    """Cells of 1 x 2, 1 x 4, 1 x 6, ... pixels, of which the truth and the prediction have some."""
    sides = []
    for chosen in (true_ids, ids):
        labels = np.zeros((8, 20), np.int32)
        for index in chosen:
            labels[index, : 2 * index] = index
        classes = [1 + index % 2 for index in chosen]
        scores = [0.9 if index > 2 else 0.3 for index in chosen]
        sides.append(Segmentation.from_labels(labels, classes=classes, scores=scores))
    return Statistics.of(*sides, NAMES, name=name, group=group, details=DetailOptions())


@pytest.fixture(scope="module")
def scores():
    total = image([1, 2, 3, 4], [1, 2, 3, 4], "a", "p") + image([1, 2, 3, 4], [3, 4, 5], "b", "p")
    return (total + image([2], [2], "c", "q")).compute()


def test_each_group_has_its_own_scores(scores):
    table = tables.by_group({"model": scores})
    assert table.rows == (("p", "model"), ("q", "model"))
    rows = [dict(zip(table.header[2:], (cell.value for cell in row), strict=True)) for row in table.cells]
    assert [row["images"] for row in rows] == [2, 1]
    assert [row["true"] for row in rows] == [4, 1]
    # The class "round" has the cells 2 and 4: of four in the group p three are found.
    part = [row["F1"] for row in rows]
    assert part == [pytest.approx(2 * 3 / 7), 1]
    assert tables.by_group({"model": image([1], [1], "a", "p").compute()}).rows == ()


def test_recall_of_each_quarter_of_the_areas(scores):
    table = tables.by_size({"model": scores})
    edges = scores.all.size_quartiles
    assert table.rows[0][0] == f"up to {edges['25 %']:g} pixels"
    assert table.rows[3][0] == f"above {edges['75 %']:g} pixels"
    assert [row[0].value for row in table.cells] == pytest.approx(
        [scores.all.recall_by_size[f"q{index}"] for index in range(1, 5)], nan_ok=True
    )
    assert table.cells[0][0].value < table.cells[2][0].value


def test_errors_have_both_costs(scores):
    table = tables.errors({"model": scores.details})
    missed, expected = table.rows.index(("missed", "model")), scores.details["errors"]["all"]["missed"]
    assert [cell.value for cell in table.cells[missed]] == [2, 0, expected.d_ap, expected.d_pq]
    assert expected.d_ap != expected.d_pq
    assert tables.errors({"model": {}}).rows == ()


def test_the_confusion_matrix_has_fractions_of_the_true_pixels(scores):
    table, fractions = tables.confusion(scores)
    assert table.rows == (("background",), ("round",), ("flat",))
    assert np.nansum(fractions, axis=1) == pytest.approx([1, 1, 1])
    # In one of the images the cells 1 and 2 are missed: 2 of 16 pixels of "flat", 4 of 28 of "round".
    assert fractions[2, 0] == pytest.approx(2 / 16)
    assert fractions[1, 0] == pytest.approx(4 / 28)
    assert table.cells[2][0].value == fractions[2, 0]


def test_charts_leave_empty_bins_out(scores, monkeypatch):
    drawn = {}

    def curves(values, *, x, y):
        drawn[y] = values
        return b""

    monkeypatch.setattr("segjax.report.evaluation_charts.curves", curves)
    charts = score_charts({"model": scores}, {"model": scores.details})
    assert len(charts) == 3
    (_, bins) = drawn["precision at IoU 0.5"].values()
    assert len(bins) == 2
    assert not any(math.isnan(value) for point in bins for value in point)
    assert list(drawn["precision"]) == ["model: round", "model: flat"]


def test_each_image_has_a_row_of_the_class_of_the_scores(scores):
    per_image = {
        one.name: dataclasses.replace(scores.statistics, images=(one,)).compute()
        for one in scores.statistics.images
    }
    table = tables.images({"model": Evaluation(scores, per_image, None, 1.0)})
    assert table.rows == (("a", "model"), ("b", "model"), ("c", "model"))
    assert [[cell.value for cell in row][:2] for row in table.cells] == [[2, 2], [2, 1], [1, 1]]
