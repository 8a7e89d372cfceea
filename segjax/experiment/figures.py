"""Numbers in Markdown tables that commands reproduce.

A comment above a table says which of its columns are scores of the results:

    <!-- verify: {"columns": {"AP at 0.5": "AP 0.5", "micronucleus IoU": "iou/micronucleus"}} -->

A score has its name in the results of `segjax evaluate` or `segjax ablate`, if it has an interval there, or
is a path in the scores of a method in `metrics.json`. The command of a row is in one of its cells, between
backticks, or in the comment, as `"command"`. A row belongs to the method that its label names, up to a
colon; `"rows"` maps other labels to methods. Columns with equal headers are called "AP at 0.5", "AP at 0.5
(2)" and so on. A table may have several comments.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segjax.errors import InputError
from segjax.files import read_json_object

COMMENT = re.compile(r"<!-- verify: (.*?)-->", re.DOTALL)
NUMBER = re.compile(r"-?\d+(\.\d+)?")
# Where commands write their results, below the folder that `--out` or `--workdir` names.
RESULTS = ("metrics.json", "report/metrics.json", "table.json")
# Start of the status of a row that only an earlier version of the sweep had.
ABSENT = "no longer in the sweep"


class Figure(NamedTuple):
    """A number in a table.

    Attributes:
      line: number of its line in the file, from 1.
      row: label of its row.
      column: header of its column.
      printed: the number as it is printed, such as "0.803".
      command: the command that makes it, which starts with "segjax".
      method: name of the method in the results.
      score: name of the score, or its path.
    """

    line: int
    row: str
    column: str
    printed: str
    command: str
    method: str
    score: str


class Score(NamedTuple):
    """A score in the results of a command.

    Attributes:
      value: the score.
      interval: its interval of 95 %, None if the results have none.
    """

    value: float
    interval: tuple[float, float] | None = None


class Compared(NamedTuple):
    """A figure and the score of the command.

    Attributes:
      figure: the figure.
      score: the score.
    """

    figure: Figure
    score: Score

    @property
    def state(self) -> str:
        """Whether the score is the printed number: "same", "inside the interval" or "differs"."""
        decimals = len(self.figure.printed.partition(".")[2])
        if f"{self.score.value:.{decimals}f}" == self.figure.printed:
            return "same"
        low, high = self.score.interval or (float("inf"), float("-inf"))
        return "inside the interval" if low <= float(self.figure.printed) <= high else "differs"

    def __str__(self) -> str:
        """Returns one line."""
        figure, decimals = self.figure, len(self.figure.printed.partition(".")[2]) + 1
        return (
            f"{self.state:20} line {figure.line}, {figure.row}, {figure.column}: {figure.printed}, now"
            f" {self.score.value:.{decimals}f}"
        )


def read_figures(path: Path) -> list[Figure]:
    """Returns the figures of a Markdown file.

    Raises:
      InputError: if a comment is not followed by a table, or names a column that the table does not have, or
        a row has no command.
    """
    text = path.read_text(encoding="utf-8")
    return [figure for comment in COMMENT.finditer(text) for figure in _read_table(path, text, comment)]


def _read_table(path: Path, text: str, comment: re.Match[str]) -> Iterator[Figure]:
    """Yields the figures of the table after a comment."""
    place = f"{path}:{_line(text, comment.start())}"
    try:
        about = json.loads(comment[1])
        columns, rows = dict(about["columns"]), dict(about.get("rows", {}))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{place}: the comment is not as {{"columns": {{"AP at 0.5": "AP 0.5"}}}} ({error})'
        ) from error
    variables = dict(re.findall(r"^ +([A-Z]+)=(\S+)$", text[: comment.start()], re.MULTILINE))
    # A table may have several comments.
    rest = COMMENT.sub(lambda other: "\n" * other[0].count("\n"), text[comment.end() :])
    (_, header), *lines = _table(rest.splitlines(), _line(text, comment.end())) or [(0, [])]
    names = _numbered(header)
    if missing := [name for name in columns if name not in names]:
        raise InputError(f"{place}: the table after the comment has no column {missing[0]!r}")
    for line, cells in lines:
        command = about.get("command") or _command(cells)
        if not command:
            raise InputError(f"{path}:{line}: the row has no command, and neither has the comment")
        for variable, value in variables.items():
            command = command.replace(f"${variable}", value)
        label = _plain(cells[0])
        method = rows.get(label, label.partition(":")[0])
        for column, score in columns.items():
            if number := NUMBER.match(_plain(cells[names.index(column)])):
                yield Figure(line, label, column, number[0], command, method, score)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def results_folder(command: str) -> str:
    """Returns the folder that `--out` or `--workdir` of a command names.

    Raises:
      InputError: if the command is none of segjax, or has no such flag.
    """
    words = shlex.split(command)
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--"))
    if words[0] != "segjax" or not (folder := flags.get("out") or flags.get("workdir")):
        raise InputError(
            f"{command!r} is not a command of segjax with --out or --workdir, where its results would be"
        )
    return folder


def read_results(folder: Path) -> dict[str, Any] | None:
    """Returns the results of a command from its folder; None if there are none."""
    for name in RESULTS:
        if (folder / name).exists():
            return read_json_object(folder / name)
    return None


def present_rows(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the rows of the table of a sweep that it still has; none for other results."""
    return [row for row in results.get("rows", ()) if not row.get("status", "").startswith(ABSENT)]


def find_score(results: Mapping[str, Any], figure: Figure) -> Score:
    """Finds the value of a figure in the results of its command.

    Raises:
      InputError: if the results do not have it.
    """
    if "rows" in results:
        scores = {row["label"]: row["scores"] for row in present_rows(results)}
        value = scores.get(figure.method, {}).get(figure.score, {}).get("mean")
        interval = scores.get(figure.method, {}).get(figure.score, {}).get("interval")
    else:
        methods = results["methods"]
        method = figure.method if figure.method in methods else "model"
        estimate = results.get("uncertainty", {}).get("scores", {}).get(method, {}).get(figure.score, {})
        value, interval = estimate.get("value"), estimate.get("interval")
        if value is None:
            value = methods.get(method)
            for name in figure.score.split("/"):
                value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, float | int):
        raise InputError(f"line {figure.line}: the results have no {figure.score!r} of {figure.method!r}")
    return Score(float(value), None if interval is None else (interval[0], interval[1]))


def _table(lines: list[str], first: int) -> list[tuple[int, list[str]]]:
    """Returns line number and cells of the header and of each row of the table that starts the text."""
    table = []
    for number, line in enumerate(lines, first):
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
            if not all(set(cell) <= set(":-") for cell in cells):
                table.append((number, cells))
        elif line.strip() or table:
            break
    return table


def _numbered(header: list[str]) -> list[str]:
    """Adds a number to the second and later occurrences of a header."""
    names = [_plain(cell) for cell in header]
    counts = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [name if count == 1 else f"{name} ({count})" for name, count in zip(names, counts, strict=True)]


def _command(cells: list[str]) -> str:
    return next((match[1] for cell in cells if (match := re.search(r"`(segjax [^`]+)`", cell))), "")


def _plain(cell: str) -> str:
    return cell.replace("**", "").replace("`", "").strip()


def group_by_command(figures: list[Figure]) -> Iterator[tuple[str, list[Figure]]]:
    """Yields each command and its figures, in the order of the file."""
    for command in dict.fromkeys(figure.command for figure in figures):
        yield command, [figure for figure in figures if figure.command == command]
