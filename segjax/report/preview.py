"""Contact sheets of a data set's images and annotations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segjax.data.records import Record, Source
from segjax.report.overlays import draw_outlines, resized, to_display_rgb
from segjax.segmentation import Segmentation

CELL = 224  # width of a picture, pixels
COLUMNS = 6
TEXT = 13
GAP = 6
# Side of the window around a single instance: at least so many pixels, and times its longer side.
MIN_WINDOW, CONTEXT = 32, 2.0

Captioned = tuple[str, np.ndarray]


def contact_sheet(pictures: Sequence[Captioned], *, columns: int = COLUMNS, width: int = CELL) -> np.ndarray:
    """Arranges pictures in a grid.

    Args:
      pictures: captions and [h, w, 3] uint8; each is fitted into a square without distortion.
      columns: maximum number of columns.
      width: side of a square, pixels.

    Returns:
      [H, W, 3] uint8, on white.

    Raises:
      ValueError: if there is no picture.
    """
    if not pictures:
        raise ValueError("a contact sheet needs a picture")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    step, height = width + GAP, width + TEXT + 2 * GAP
    sheet = Image.new("RGB", (columns * step + GAP, rows * height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for index, (caption, picture) in enumerate(pictures):
        left, top = GAP + index % columns * step, GAP + index // columns * height
        drawn = Image.fromarray(picture)
        scale = width / max(drawn.size)
        size = (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale)))
        # When strongly enlarged, pixels stay sharp.
        drawn = drawn.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)
        sheet.paste(drawn, (left + (width - size[0]) // 2, top + (width - size[1]) // 2))
        draw.text((left, top + width + 2), _shortened(caption, font, width), fill="black", font=font)
    return np.asarray(sheet)


def evenly_spaced(source: Source, count: int) -> list[Record]:
    """Returns at most `count` records, evenly spaced over a source."""
    return [source[index] for index in _evenly_spaced_indices(len(source), count)]


def raw(records: Iterable[Record]) -> list[Captioned]:
    """Returns captioned images without annotations, scaled for display."""
    return [(record.name, to_display_rgb(record.image)) for record in records]


def outlines(records: Iterable[Record]) -> list[Captioned]:
    """Returns images with the outline of every instance in the colour of its class."""
    return [(record.name, _outlined(record)) for record in records]


def by_group(records: Iterable[Record], *, count: int) -> list[Captioned]:
    """Returns the first image of each group, at most `count`."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.group, record)
        if len(first) == count:
            break
    return [(group, _outlined(record)) for group, record in sorted(first.items())]


def by_class(records: Sequence[Record], index: int, *, count: int) -> list[Captioned]:
    """Returns instances of one class with their surroundings, at most `count`, a few of each image."""
    pictures: list[Captioned] = []
    per_image = max(1, math.ceil(count / max(len(records), 1)))
    for record in records:
        instances, boxes = np.flatnonzero(record.truth.classes == index), record.truth.boxes
        for instance in instances[_evenly_spaced_indices(len(instances), per_image)]:
            window = _around(boxes[instance], record.truth.shape)
            alone = (record.truth.labels[window] == instance + 1).astype(np.int32)
            # Enlarge first, then outline: at the original size, the line would hide a small instance.
            picture, (truth,) = resized(
                record.image[window], [Segmentation.from_labels(alone, classes=[index])], CELL
            )
            pictures.append((record.name, draw_outlines(picture, truth, thickness=2)))
    return pictures[:count]


def patch(image: np.ndarray, labels: np.ndarray, semantic: np.ndarray) -> np.ndarray:
    """Draws a training patch with its outlines.

    Args:
      image: [S, S, C] float, as the network sees it.
      labels: [S, S] int, ids with gaps.
      semantic: [S, S] int, class of each pixel.

    Returns:
      [h, w, 3] uint8.
    """
    ids, first = np.unique(labels, return_index=True)
    # The first pixel of an instance may be ignored, but its class is at least 1.
    classes = np.maximum(semantic.ravel()[first], 1)[ids > 0]
    truth = Segmentation.from_labels(labels, classes=classes, semantic=semantic)
    picture, (truth,) = resized(image, [truth], CELL)
    return draw_outlines(picture, truth)


def _outlined(record: Record) -> np.ndarray:
    width = min(2 * CELL, record.image.shape[1])
    picture, (truth,) = resized(record.image, [record.truth], width)
    return draw_outlines(picture, truth, thickness=1 if width <= CELL else 2)


def _evenly_spaced_indices(length: int, count: int) -> list[int]:
    indices: list[int] = np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()
    return indices


def _around(box: np.ndarray, shape: tuple[int, int]) -> tuple[slice, ...]:
    """Returns row and column slices of a square around a box, inside the image."""
    x0, y0, x1, y1 = box.tolist()
    side = max(MIN_WINDOW, math.ceil(CONTEXT * max(x1 - x0, y1 - y0)))
    starts = (
        min(max((low + high - side) // 2, 0), max(length - side, 0))
        for low, high, length in ((y0, y1, shape[0]), (x0, x1, shape[1]))
    )
    return tuple(slice(start, start + side) for start in starts)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"…{text}") > width:
        text = text[1:]  # names in a data set have the same prefix
    return f"…{text}"
