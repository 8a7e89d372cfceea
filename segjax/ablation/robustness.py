"""Finds the worst perturbation of each row of a sweep, after its points."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from absl import logging
from tqdm import tqdm

from segjax.ablation.extras import WORST, worst_perturbation
from segjax.ablation.measure import Evaluating, free_memory, open_point
from segjax.ablation.points import Point
from segjax.ablation.runs import RESULT, SweepFolder, claimed, read_entry, state_of
from segjax.errors import Interrupted, first_line
from segjax.files import write_json

PERTURBED = "perturbed.json"


def add_robustness(points: Iterable[Point], sweep: SweepFolder, evaluating: Evaluating) -> None:
    """Evaluates perturbed images with the first seed of each row that is done, unless a process did.

    A method that fails at this is named in a warning; the same command tries again.

    Args:
      points: the points of the sweep.
      sweep: its folder.
      evaluating: the images.

    Raises:
      Interrupted: after SIGTERM or Ctrl-C; the same command goes on with the rows that are left.
    """
    rows: dict[str, list[Point]] = {}
    for point in points:
        rows.setdefault(point.row, []).append(point)
    left = [_first_left(row, sweep) for row in rows.values()]
    for point in tqdm([*filter(None, left)], desc="robustness", unit="row", dynamic_ncols=True):
        folder = sweep.folder(point)
        with claimed(folder) as is_claimed:
            if not is_claimed or not _is_left(folder):
                continue
            try:
                _measure(point, folder, evaluating)
            except Interrupted:
                raise
            except Exception as error:
                logging.warning(
                    "the robustness of %s could not be measured: %s", point.label, first_line(error)
                )


def read_result(folder: Path) -> dict[str, Any] | None:
    """Returns the result of a point, with that of perturbed images if it is there; None if it is not done."""
    result, perturbed = read_entry(folder / RESULT), read_entry(folder / PERTURBED)
    if result is None or perturbed is None or set(perturbed["ratios"]) != set(result["ratios"]):
        return result
    ratios = {
        image: scores | {WORST: perturbed["ratios"][image]} for image, scores in result["ratios"].items()
    }
    return result | {"ratios": ratios, "worst_perturbation": perturbed["name"]}


def _first_left(row: Iterable[Point], sweep: SweepFolder) -> Point | None:
    """Returns the first point of a row that is done; None if none is, or one of the row is measured."""
    done = [point for point in row if state_of(sweep.folder(point)) == "done"]
    is_measured = any((sweep.folder(point) / PERTURBED).exists() for point in done)
    return None if is_measured or not done else done[0]


def _is_left(folder: Path) -> bool:
    return state_of(folder) == "done" and not (folder / PERTURBED).exists()


def _measure(point: Point, folder: Path, evaluating: Evaluating) -> None:
    free_memory()
    opened, source = open_point(point, folder, evaluating)
    worst = worst_perturbation(opened, source, point.config.dataset.headline)
    write_json(folder / PERTURBED, worst._asdict())
