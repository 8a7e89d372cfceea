"""The files that a prediction writes: their names, and the tables of all images together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from segjax.errors import InputError
from segjax.experiment.finished_images import FOLDER, Finished
from segjax.experiment.results_folder import FAILED, open_results, write_failed
from segjax.files import write_json
from segjax.inference import coco
from segjax.inference.tables import write_table

# Files of all images together, directly in the folder of results.
TABLES = ("measurements.csv", "measurements.parquet")
PREDICTIONS = "predictions.json"
COMMON = (*TABLES, PREDICTIONS, FAILED)


def open_predictions(out: Path) -> None:
    """Opens a folder for the files of a prediction.

    Raises:
      InputError: if it cannot be written, or has a file of the same name and no prediction yet.
    """
    open_results(out)
    if (out / FOLDER).exists():
        return
    for name in COMMON:
        if (out / name).exists():
            raise InputError(
                f"{out / name} exists, and was not written by segjax predict: move it, or give another --out"
            )


def write_tables(
    out: Path,
    done: Mapping[str, Finished],
    failed: Mapping[str, str],
    *,
    formats: Collection[str],
    class_names: Sequence[str] | None,
) -> None:
    """Writes the files of all images together, each atomically.

    Args:
      out: the folder of results.
      done: finished images by name.
      failed: reasons of failed images by name, for `failed.csv`, which is removed if there are none.
      formats: with "csv" it writes `measurements.csv` and `measurements.parquet`, which are removed if no
        image has measurements; with "coco" `predictions.json`.
      class_names: background first; None for default names.

    Raises:
      OSError: if a file cannot be written.
    """
    if "coco" in formats:
        images = [coco.Image(name, image.shape, image.annotations or ()) for name, image in done.items()]
        highest = max((one["category_id"] for image in images for one in image.annotations), default=1)
        write_json(out / PREDICTIONS, coco.data_set(images, class_names or default_names(highest)))
    if "csv" in formats:
        tables = [
            {"image": np.full(image.instances, name)} | image.table
            for name, image in done.items()
            # A large image has its measurements only in its own table.
            if image.table is not None
        ]
        for name in TABLES:
            if tables:
                write_table(tables, out / name)
            else:
                (out / name).unlink(missing_ok=True)
    write_failed(out, failed)


def default_names(highest: int) -> list[str]:
    """Returns names of the classes 0 to `highest`, at least of two."""
    return [f"class {index}" for index in range(1 + max(1, highest))]
