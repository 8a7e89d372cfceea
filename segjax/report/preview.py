"""Contact sheets of a data set's images and annotations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from segjax.data.records import Record, Source
from segjax.report.overlays import draw_outlines, resized, to_display_rgb
from segjax.segmentation import Segmentation

CELL = 224  # width of a picture, pixels
COLUMNS = 6
TEXT = 13
GAP = 6
# The window around an instance that is shown on its own: pixels at least, and times its longer side.
SMALLEST, CONTEXT = 32, 2.0

Captioned = tuple[str, np.ndarray]


def contact_sheet(pictures: Sequence[Captioned], *, columns: int = COLUMNS, width: int = CELL) -> np.ndarray:
    """Arranges pictures in a grid.

    Args:
      pictures: captions and [h, w, 3] uint8; each is fitted into a square, never distorted.
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
        # Strong enlargement keeps pixels sharp.
        way = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
        drawn = drawn.resize(size, way)
        sheet.paste(drawn, (left + (width - size[0]) // 2, top + (width - size[1]) // 2))
        draw.text((left, top + width + 2), _shortened(caption, font, width), fill="black", font=font)
    return np.asarray(sheet)


def evenly_spaced(source: Source, count: int) -> list[Record]:
    """Returns at most `count` records, evenly spaced over a source."""
    picked = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int))
    return [source[int(index)] for index in picked]


def raw(records: Iterable[Record]) -> list[Captioned]:
    """Returns captioned images without annotations, scaled for display."""
    return [(record.name, to_display_rgb(record.image)) for record in records]


def outlines(records: Iterable[Record], class_names: Sequence[str]) -> list[Captioned]:
    """Images with the outline of every instance in the colour of its class."""
    return [(record.name, _outlined(record, class_names)) for record in records]


def by_group(records: Iterable[Record], class_names: Sequence[str], *, count: int) -> list[Captioned]:
    """The first image of each group, at most `count`."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.group, record)
        if len(first) == count:
            break
    return [(group, _outlined(record, class_names)) for group, record in sorted(first.items())]


def by_class(
    records: Iterable[Record], class_names: Sequence[str], index: int, *, count: int
) -> list[Captioned]:
    """Instances of one class with what is around them, at most `count`, a few of each image."""
    cut: list[Captioned] = []
    records = list(records)
    each = max(1, math.ceil(count / max(len(records), 1)))
    for record in records:
        for box, number in _some_boxes(record.truth, index, each):
            window = _around(box, record.truth.shape)
            labels = record.truth.labels[window]
            alone = Segmentation.from_labels((labels == number).astype(np.int32), classes=[index])
            # Enlarged before it is outlined: at its own size the line would hide a small instance.
            picture, (alone,) = resized(record.image[window], [alone], CELL)
            cut.append((record.name, draw_outlines(picture, alone, class_names, thickness=2)))
    return cut[:count]


def patch(
    image: np.ndarray, labels: np.ndarray, semantic: np.ndarray, class_names: Sequence[str]
) -> np.ndarray:
    """A training patch with its outlines.

    Args:
      image: [S, S, C] float, as the network sees it.
      labels: [S, S] int, ids with gaps.
      semantic: [S, S] int, of each pixel.
      class_names: background first.

    Returns:
      [h, w, 3] uint8.
    """
    ids, first = np.unique(labels, return_index=True)
    # The first pixel of an instance may be ignored, but its class is at least 1.
    classes = np.maximum(semantic.ravel()[first], 1)[ids > 0]
    truth = Segmentation.from_labels(labels, classes=classes, semantic=semantic)
    picture, (truth,) = resized(image, [truth], CELL)
    return draw_outlines(picture, truth, class_names)


def _outlined(record: Record, class_names: Sequence[str]) -> np.ndarray:
    width = min(2 * CELL, record.image.shape[1])
    picture, (truth,) = resized(record.image, [record.truth], width)
    return draw_outlines(picture, truth, class_names, thickness=1 if width <= CELL else 2)


def _some_boxes(truth: Segmentation, index: int, count: int) -> Iterator[tuple[tuple[slice, ...], int]]:
    numbers = np.flatnonzero(truth.classes == index) + 1
    if len(numbers) > count:
        numbers = numbers[np.linspace(0, len(numbers) - 1, count).round().astype(int)]
    boxes = ndimage.find_objects(truth.labels)
    for number in numbers:
        yield boxes[number - 1], int(number)


def _around(box: tuple[slice, ...], shape: tuple[int, int]) -> tuple[slice, ...]:
    side = max(SMALLEST, math.ceil(CONTEXT * max(part.stop - part.start for part in box)))
    starts = (
        min(max((part.start + part.stop - side) // 2, 0), max(length - side, 0))
        for part, length in zip(box, shape, strict=True)
    )
    return tuple(slice(start, start + side) for start in starts)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"…{text}") > width:
        text = text[1:]  # names in a data set share their prefix
    return f"…{text}"
