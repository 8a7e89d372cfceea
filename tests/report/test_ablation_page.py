import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from segjax.report import ablation_charts
from segjax.report.ablation_charts import make_charts
from segjax.report.ablation_page import as_csv, make_columns, markdown, write_ablation
from segjax.report.ablation_rows import AblationReport, Costs, Row, RowScore
from segjax.report.charts import curves, scatter

BASE = Row(
    "skips=True, width=0.25",
    {"model.skips": "True", "model.width": "0.25"},
    "done",
    num_done=2,
    scores={
        "AP 0.5": RowScore(0.7, 0.01, (0.6, 0.8)),
        "Dice": RowScore(0.9, 0.0),
        "Dice nucleus": RowScore(0.9, 0.0),
    },
    rank=2,
    costs=Costs(200.0, 90.0, 0.5, parameters=1.5e6, flops=2e9, peak_bytes=2**30, step_bytes=2**20 * 300),
    curve=[(1.0, 2.0), (2.0, 1.0)],
    command="segjax train --config=<skips>",
)
BETTER = Row(
    "skips=False, width=0.25",
    {"model.skips": "False", "model.width": "0.25"},
    "done",
    num_done=2,
    scores={"AP 0.5": RowScore(0.8, 0.02, (0.7, 0.9), 0.1, (0.05, 0.15), 0.01, 0.07)},
    rank=1,
    costs=Costs(train_seconds=80.0, seconds_per_image=0.01),
    curve=[(1.0, 3.0), (2.0, 2.0)],
)
UNCLEAR = Row(
    "skips=False, width=0.5",
    {"model.skips": "False", "model.width": "0.5"},
    "1 of 2 done; failed: MemoryError: a | b",
    num_done=1,
    scores={"AP 0.5": RowScore(0.75, None, None, 0.05, (-0.01, 0.11), 0.3, 0.08)},
    rank=3,
)
NOT_RUN = Row("<b>=1", {"model.skips": "<b>"}, "not run")


def report(*rows):
    rows = rows or (BASE, BETTER, UNCLEAR, NOT_RUN)
    return AblationReport("skips", "Do skips help?", rows, "AP 0.5", "15 images", "segjax ablate", ["a CPU"])


def lines(made):
    text = markdown(made, make_columns(made))
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    header, *rows = [[cell.strip() for cell in row] for row in rows]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_only_a_clear_improvement_is_bold():
    base, better, unclear, _ = lines(report())
    assert base["AP 0.5"] == "0.700 ± 0.010"
    assert better["AP 0.5"] == "**0.800 ± 0.020**"
    assert unclear["AP 0.5"] == "0.750"
    assert better["difference in AP 0.5 [95 %]"] == "+0.100 [+0.050, +0.150]"
    assert unclear["p"] == "0.300"


@pytest.mark.parametrize(
    ("difference", "interval", "expected"),
    [
        (0.1, (0.01, 0.2), True),
        (-0.1, (-0.2, -0.01), False),
        (0.1, (0.0, 0.2), False),
        (0.0001, (1e-5, 2e-4), False),
    ],
)
def test_a_worse_row_and_a_difference_that_is_not_displayed_are_not_bold(difference, interval, expected):
    assert RowScore(0.5, difference=difference, difference_interval=interval).is_better is expected


def test_costs_have_units_and_a_table_has_no_empty_column():
    row = lines(report())[0]
    assert (row["training"], row["total"], row["s/image"]) == ("90 s", "3.33 min", "0.5")
    assert (row["parameters"], row["step, per image"]) == ("1.5 M", "2 GFLOP")
    assert (row["step memory"], row["peak memory"]) == ("300 MiB", "1.02e+03 MiB")
    names = [column.name for column in make_columns(report(UNCLEAR, NOT_RUN))]
    assert "training" not in names
    assert "parameters" not in names


def test_incomplete_rows_are_marked_with_their_reason():
    text = markdown(report(), make_columns(report()))
    assert [row["state"] for row in lines(report())] == ["done", "done", "1 of 2 done; failed", "not run"]
    reasons = "skips=False, width=0.5 (1 of 2 done; failed: MemoryError: a | b), <b>=1 (not run)."
    assert f"2 of 4 rows are incomplete: {reasons}" in text
    assert "incomplete" not in markdown(report(BASE), make_columns(report(BASE)))


def test_a_name_with_the_sign_of_a_column_is_one_cell():
    made = report(Row("a|b", {}, "not run"))
    assert r"| a\|b | not run |" in markdown(made, make_columns(made))


def test_the_csv_has_every_number():
    rows = list(csv.DictReader(io.StringIO(as_csv(report()))))
    assert rows[1]["AP 0.5 mean"] == "0.8"
    assert (rows[1]["AP 0.5 difference_interval low"], rows[1]["AP 0.5 difference_interval high"]) == (
        "0.05",
        "0.15",
    )
    assert rows[0]["AP 0.5 difference"] == ""
    assert rows[0]["parameters"] == "1500000.0"
    assert rows[3]["field model.skips"] == "<b>"
    assert rows[3]["AP 0.5 mean"] == ""


def test_all_files_are_written_and_the_page_escapes(tmp_path):
    nan = Row("nan", {}, "done", scores={"AP 0.5": RowScore(math.nan, difference=math.nan)})
    write_ablation(tmp_path, report(BASE, BETTER, NOT_RUN, nan))
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "table.csv", "table.json", "table.md"}
    page = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;=1" in page
    assert "<b>=1" not in page
    assert "Do skips help?" in page
    assert "segjax train --config=&lt;skips&gt;" in page
    assert (
        "- skips=True, width=0.25: `segjax train --config=<skips>`\n" in (tmp_path / "table.md").read_text()
    )
    assert page.count("<strong>") == 1
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["rows"][0]["scores"]["AP 0.5"]["interval"] == [0.6, 0.8]
    assert content["rows"][3]["scores"]["AP 0.5"]["mean"] is None


def test_charts_show_what_rows_have():
    titles = [title for title, _, _ in make_charts(report())]
    assert titles == [
        "AP 0.5 against prediction, s/image",
        "AP 0.5 against training, s",
        "Dice nucleus",
        "training loss",
        "mean AP 0.5 by model.skips",
        "mean AP 0.5 by model.width",
    ]
    assert make_charts(report(NOT_RUN)) == []
    # The mean of one row is that row.
    assert [title for title, _, _ in make_charts(report(BASE, BETTER)) if title.startswith("mean")] == []


def test_charts_leave_out_what_the_sweep_no_longer_has(monkeypatch):
    drawn = []
    monkeypatch.setattr(ablation_charts, "scatter", lambda points, **_: drawn.append(points) or b"")
    old = dataclasses.replace(
        BASE, status="no longer in the sweep", is_present=False, costs=Costs(1.0, 1.0, 9.0)
    )
    titles = [title for title, _, _ in make_charts(report(BASE, BETTER, old))]
    assert drawn[0] == {BASE.label: (0.5, 0.7), BETTER.label: (0.01, 0.8)}
    assert [title for title in titles if title.startswith("mean")] == []


def picture(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_points_and_curves_have_colours_of_their_own():
    for drawn in (
        scatter({"a": (1.0, 0.5), "b $x": (1000.0, 0.6)}, x="s", y="AP"),
        curves({"a": [(1.0, 2.0), (9.0, 1.0)], "b $x": [(1.0, 1.0), (9.0, 3.0)]}, x="step", y="loss"),
    ):
        for colour in ((0, 114, 178), (213, 94, 0)):
            assert (picture(drawn) == colour).all(-1).sum() > 20
