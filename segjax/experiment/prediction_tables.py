"""The files that a prediction writes: their names, and the tables of all images together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segjax.experiment.finished_images import Finished
from segjax.experiment.results_folder import FAILED, write_failed
from segjax.files import write_json
from segjax.inference import coco
from segjax.inference.exports import CLASSES, LABELS, OVERLAY, result_path
from segjax.inference.tables import write_table

MEASUREMENTS = "_measurements.csv"
# Files of all images together, directly in the folder of results.
TABLES = ("measurements.csv", "measurements.parquet")
PREDICTIONS = "predictions.json"
COMMON = (*TABLES, PREDICTIONS, FAILED)


def result_paths(stem: Path, *, measured: bool = True) -> list[Path]:
    """Returns the files that a prediction writes for one image."""
    endings = (LABELS, CLASSES, OVERLAY, *((MEASUREMENTS,) if measured else ()))
    return [result_path(stem, ending) for ending in endings]


def write_tables(
    out: Path,
    done: Mapping[str, Finished],
    failed: Mapping[str, str],
    *,
    measured: bool,
    as_coco: bool,
    class_names: Sequence[str] | None,
) -> None:
    """Writes the files of all images together, each atomically.

    Args:
      out: the folder of results.
      done: finished images by name.
      failed: reasons of failed images by name, for `failed.csv`, which is removed if there are none.
      measured: whether to write `measurements.csv` and `measurements.parquet`.
      as_coco: whether to write `predictions.json`.
      class_names: background first; None for default names.

    Raises:
      OSError: if a file cannot be written.
    """
    if as_coco:
        images = [coco.Image(name, image.shape, image.annotations or ()) for name, image in done.items()]
        highest = max((one["category_id"] for image in images for one in image.annotations), default=1)
        write_json(out / PREDICTIONS, coco.data_set(images, class_names or default_names(highest)))
    if measured:
        tables = [
            {"image": np.full(image.instances, name)} | (image.table or {}) for name, image in done.items()
        ]
        for name in TABLES:
            write_table(tables, out / name)
    write_failed(out, failed)


def default_names(highest: int) -> list[str]:
    """Returns names of the classes 0 to `highest`, at least of two."""
    return [f"class {index}" for index in range(1 + max(1, highest))]
