"""One image through every row of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segjax.data.records import Source
from segjax.inference.exports.pictures import write_picture
from segjax.report.overlays import draw_outlines, to_display_rgb
from segjax.report.preview import contact_sheet
from segjax.report.stages import busiest
from segjax.segmentation import Method

# In the folder of a point: what it predicts, and the annotation.
PREDICTED, ANNOTATED = "example.png", "annotation.png"
COLUMNS, WIDTH = 4, 320


def draw_example(method: Method, source: Source, counts: Sequence[int], folder: Path) -> None:
    """Writes what a method predicts in the busiest window of an image, and the annotation.

    The image is the one with the median number of instances, so that it is the same for every method.

    Args:
      method: segments the image.
      source: the images.
      counts: the number of instances in each image.
      folder: the folder of the point.
    """
    record = source[int(np.argsort(counts, kind="stable")[len(counts) // 2])]
    window = busiest(record.truth.semantic > 0)
    picture = to_display_rgb(record.image)
    for name, segmentation in ((ANNOTATED, record.truth), (PREDICTED, method(record.image))):
        write_picture(draw_outlines(picture, segmentation)[window], folder / name)


def write_rows(points: Iterable[tuple[str, Path]], path: Path) -> bytes | None:
    """Writes a PNG of the annotation and of the example of each row, that of its first finished point.

    Args:
      points: the label of its row and the folder of each point.
      path: the file.

    Returns:
      The content of the file; None if no point has an example.
    """
    predicted: dict[str, np.ndarray] = {}
    annotated: dict[str, np.ndarray] = {}
    for label, folder in points:
        if label not in predicted and (picture := _read(folder / PREDICTED)) is not None:
            predicted[label] = picture
            annotation = _read(folder / ANNOTATED)
            annotated = annotated or ({} if annotation is None else {"annotation": annotation})
    if not predicted:
        return None
    write_picture(contact_sheet([*annotated.items(), *predicted.items()], columns=COLUMNS, width=WIDTH), path)
    return path.read_bytes()


def _read(path: Path) -> np.ndarray | None:
    """Returns a picture, None if it is missing or damaged."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError:
        return None
