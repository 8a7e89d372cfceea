"""Reproduces the numbers of a table by running their commands."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.errors import InputError
from segjax.experiment.figures import (
    Compared,
    Figure,
    find_score,
    present_rows,
    read_results,
    results_folder,
)


def verify(command: str, figures: Sequence[Figure], workdir: Path) -> Iterator[Compared]:
    """Runs a command, unless all its results are there, and compares the figures with them.

    Args:
      command: a command of segjax.
      figures: the figures that it makes.
      workdir: the folder in which it runs.

    Yields:
      Each figure, compared.

    Raises:
      InputError: if the command fails, or a figure is not in its results.
    """
    folder = workdir / results_folder(command)
    if not _is_complete(read_results(folder)):
        workdir.mkdir(parents=True, exist_ok=True)
        # With -P, files in the folder do not replace modules.
        program = [sys.executable, "-P", "-m", "segjax", *shlex.split(command)[1:]]
        code = subprocess.run(program, cwd=workdir, check=False).returncode
        if code:
            raise InputError(f"{command!r} ended with exit code {code}: its figures are not verified")
    results = read_results(folder)
    if results is None:
        raise InputError(f"{command!r} wrote no results to {folder}: name the folder that has them")
    for figure in figures:
        yield Compared(figure, find_score(results, figure))


def _is_complete(results: Mapping[str, Any] | None) -> bool:
    """Returns whether there are results; those of a sweep may have rows that are not done."""
    return results is not None and all(row["status"] == "done" for row in present_rows(results))
