"""The files that a prediction writes: their names, and the tables of all images together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from segjax.experiment.finished_images import FOLDER, Finished, FinishedImages
from segjax.experiment.results_folder import FAILED, open_results
from segjax.experiment.written_files import WrittenFiles
from segjax.files import write_json
from segjax.inference import coco
from segjax.inference.tables import write_table

# Files of all images together, directly in the folder of results.
TABLES = ("measurements.csv", "measurements.parquet")
PREDICTIONS = "predictions.json"
COMMON = (*TABLES, PREDICTIONS, FAILED)


def open_predictions(out: Path, formats: Collection[str] = ()) -> None:
    """Opens a folder for the files of a prediction.

    Args:
      out: the folder of results.
      formats: the formats that files of all images together are written for.

    Raises:
      InputError: if it cannot be written; or if one of these files is there and must not be replaced, see
        `WrittenFiles.check`. In a new folder of results, none of them may be there.
    """
    open_results(out)
    asked = {FAILED, *(TABLES if "csv" in formats else ()), *((PREDICTIONS,) if "coco" in formats else ())}
    for name in COMMON:
        if name in asked or not (out / FOLDER).exists():
            WrittenFiles(out).check(out / name)


def write_tables(
    out: Path, done: Mapping[str, Finished], formats: Collection[str], class_names: Sequence[str] | None
) -> None:
    """Writes the files of all images together, each atomically.

    Args:
      out: the folder of results.
      done: finished images by name.
      formats: with "csv" it writes `measurements.csv` and `measurements.parquet`, which are removed if no
        image has measurements; with "coco" `predictions.json`.
      class_names: background first; None for default names.

    Raises:
      OSError: if a file cannot be written.
    """
    written = WrittenFiles(out)
    ordered = sorted(done.items(), key=lambda item: PurePosixPath(item[0]))
    if "coco" in formats:
        images = [
            coco.Image(name, image.shape, image.annotations)
            for name, image in ordered
            if image.annotations is not None
        ]
        highest = max((one["category_id"] for image in images for one in image.annotations), default=1)
        with written.replacing(out / PREDICTIONS):
            write_json(out / PREDICTIONS, coco.data_set(images, class_names or default_names(highest)))
    if "csv" in formats:
        tables = [
            {"image": np.full(image.instances, name)} | image.table
            for name, image in ordered
            # A large image has its measurements only in its own table.
            if image.table is not None
        ]
        # The series of the main folder has tables of the same names.
        FinishedImages(out).forget_series("")
        for name in TABLES:
            with written.replacing(out / name):
                if tables:
                    write_table(tables, out / name)
                else:
                    (out / name).unlink(missing_ok=True)


def own_tables(done: Mapping[str, Finished]) -> str:
    """Returns how many large images are not in the tables of all images, if others are; else ""."""
    counts = [image.table is None for image in done.values() if "csv" in image.exports]
    if all(counts) or not any(counts):
        return ""
    noun = "large image" if sum(counts) == 1 else "large images"
    return f"; {TABLES[0]} leaves out {sum(counts)} {noun}, measured in their own tables"


def default_names(highest: int) -> list[str]:
    """Returns names of the classes 0 to `highest`, at least of two."""
    return [f"class {index}" for index in range(1 + max(1, highest))]
