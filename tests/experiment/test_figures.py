"""Figures in Markdown tables that commands make again."""

import json
import subprocess
import sys

import pytest

from segjax.errors import InputError
from segjax.experiment.figures import (
    Compared,
    Figure,
    Score,
    find_score,
    group_by_command,
    read_figures,
    results_folder,
)
from segjax.experiment.verification import verify

PAGE = """# Results

    SMALL=size=small,dataset=mnfinder

<!-- verify: {"columns": {"AP at 0.5": "AP 0.5", "thin": "iou/nucleus"},
             "rows": {"U-Net": "model"}} -->

| method | AP at 0.5 | AP at 0.5 | thin | command |
|---|---|---|---|---|
| **U-Net** | **0.803** | 0.1 | 0.92 | `segjax train --config=a:$SMALL --workdir=runs/unet` |
| naive | 0.70 ± 0.01 | 0.2 | - | `segjax evaluate --config=classical:method=naive --out=runs/naive` |

Text, and a table without a comment:

| method | AP at 0.5 |
|---|---|
| naive | 0.1 |

<!-- verify: {"columns": {"AP (2)": "AP 0.5"}, "command": "segjax ablate --sweep=x --workdir=runs/x"} -->
<!-- verify: {"columns": {"AP": "AP 0.5"},
             "command": "segjax ablate --sweep=y --workdir=runs/y"} -->
| point | AP | AP |
|---|---|---|
| | BBBC038 | SET 2 |
| a: of all | 0.1 | 0.2 |
"""
RESULTS = {
    "methods": {"model": {"iou": {"nucleus": 0.9161}}, "naive": {"iou": {"nucleus": 0.5}}},
    "uncertainty": {"scores": {"model": {"AP 0.5": {"value": 0.8034, "interval": [0.78, 0.82]}}}},
}


@pytest.fixture
def figures(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    return read_figures(tmp_path / "page.md")


def test_figures_are_the_numbers_of_the_columns_of_a_comment(figures):
    assert [(one.line, one.row, one.column, one.printed, one.method, one.score) for one in figures] == [
        (10, "U-Net", "AP at 0.5", "0.803", "model", "AP 0.5"),
        (10, "U-Net", "thin", "0.92", "model", "iou/nucleus"),
        (11, "naive", "AP at 0.5", "0.70", "naive", "AP 0.5"),
        (25, "a: of all", "AP (2)", "0.2", "a", "AP 0.5"),
        (25, "a: of all", "AP", "0.1", "a", "AP 0.5"),
    ]
    commands = [command for command, _ in group_by_command(figures)]
    assert commands[0] == "segjax train --config=a:size=small,dataset=mnfinder --workdir=runs/unet"
    assert [results_folder(command) for command in commands] == [
        "runs/unet",
        "runs/naive",
        "runs/x",
        "runs/y",
    ]


def test_a_score_comes_from_the_results_with_its_interval(figures):
    assert find_score(RESULTS, figures[0]) == Score(0.8034, (0.78, 0.82))
    assert find_score(RESULTS, figures[1]) == Score(0.9161)
    rows = {"rows": [{"label": "a", "scores": {"AP 0.5": {"mean": 0.25, "interval": [0.1, 0.3]}}}]}
    assert find_score(rows, figures[3]) == Score(0.25, (0.1, 0.3))
    stale = {
        "label": "a",
        "status": "no longer in the sweep; 1 of 3 done",
        "scores": {"AP 0.5": {"mean": 0.9}},
    }
    assert find_score({"rows": [*rows["rows"], stale]}, figures[3]) == Score(0.25, (0.1, 0.3))
    with pytest.raises(InputError, match=r"line 11: the results have no 'AP 0.5' of 'naive'"):
        find_score(RESULTS, figures[2])


@pytest.mark.parametrize(
    ("value", "interval", "state"),
    [
        (0.8034, None, "same"),
        (0.8036, None, "differs"),
        (0.8036, (0.79, 0.81), "inside the interval"),
        (0.8136, (0.804, 0.82), "differs"),
    ],
)
def test_a_figure_is_the_same_to_its_last_digit(figures, value, interval, state):
    compared = Compared(figures[0], Score(value, interval))
    assert compared.state == state
    assert str(compared).startswith(state)
    assert "0.803, now" in str(compared)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"thin"', '"thick"', r"page.md:5: the table after the comment has no column 'thick'"),
        ('{"columns"', '{"column"', r"page.md:5: the comment is not as .*'columns'"),
        ("`segjax evaluate", "`evaluate", r"page.md:11: the row has no command"),
    ],
)
def test_what_is_wrong_with_a_comment_is_said_in_one_sentence(tmp_path, before, after, message):
    (tmp_path / "page.md").write_text(PAGE.replace(before, after))
    with pytest.raises(InputError, match=message) as raised:
        read_figures(tmp_path / "page.md")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("command", ["rm -r --out=x", "segjax train --config=a"])
def test_only_commands_of_segjax_with_a_folder_are_run(command):
    with pytest.raises(InputError, match="is not a command of segjax with --out or --workdir"):
        results_folder(command)


def test_a_command_runs_once_in_the_folder(tmp_path, figures, monkeypatch):
    ran = []

    def run(program, *, cwd, check):
        ran.append((program, cwd))
        (tmp_path / "w/runs/unet/report").mkdir(parents=True)
        (tmp_path / "w/runs/unet/report/metrics.json").write_text(json.dumps(RESULTS))
        return subprocess.CompletedProcess(program, 0)

    monkeypatch.setattr(subprocess, "run", run)
    command, group = next(group_by_command(figures))
    for _ in range(2):
        states = [compared.state for compared in verify(command, group, tmp_path / "w")]
        assert states == ["same", "same"]
    (((executable, *words), folder),) = ran
    assert (executable, folder) == (sys.executable, tmp_path / "w")
    assert words == [
        "-P",
        "-m",
        "segjax",
        "train",
        "--config=a:size=small,dataset=mnfinder",
        "--workdir=runs/unet",
    ]
    monkeypatch.setattr(subprocess, "run", lambda program, **_: subprocess.CompletedProcess(program, 2))
    with pytest.raises(InputError, match="ended with exit code 2: its figures are not verified"):
        list(verify("segjax evaluate --out=other", group, tmp_path / "w"))


def test_a_sweep_that_is_not_done_goes_on(tmp_path, monkeypatch):
    ran = []
    row = {"label": "unet", "status": "1 of 3 done", "scores": {"PQ": {"mean": 0.5, "interval": None}}}

    def run(program, **_):
        ran.append(program)
        (tmp_path / "table.json").write_text(json.dumps({"rows": [row | {"status": "done"}, stale]}))
        return subprocess.CompletedProcess(program, 0)

    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "table.json").write_text(json.dumps({"rows": [row]}))
    stale = {"label": "unet", "status": "no longer in the sweep", "scores": {"PQ": {"mean": 0.9}}}
    figure = Figure(1, "unet", "PQ", "0.50", "segjax ablate --sweep=a --workdir=.", "unet", "PQ")
    for _ in range(2):
        (compared,) = verify(figure.command, [figure], tmp_path)
        assert compared.state == "same"
        assert len(ran) == 1
