"""Kinds of microscopy images, and the repetition of rare kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from segjax.data.records import Source

# Mean difference of two channels, as a fraction of the intensity range, from which an image is coloured.
COLOURED = 0.02


def image_kind(image: np.ndarray) -> str:
    """Returns "stained" for colours on white, "bright_field" for grey on bright, else "fluorescence".

    Args:
      image: [H, W, C] of any real type.
    """
    low, middle, high = np.percentile(image, (1.0, 50.0, 99.8))
    spread = max(high - low, np.finfo(float).tiny)
    first = image[..., :1].astype(float)
    is_coloured = (np.abs(image - first).mean((0, 1)) > COLOURED * spread).any()
    if middle < (low + high) / 2:
        return "fluorescence"
    return "stained" if is_coloured else "bright_field"


def repeated(
    source: Source, balance: float, *, check: Callable[[str, tuple[int, ...]], None] | None = None
) -> np.ndarray:
    """Returns the index of each image, those of rare kinds several times.

    Args:
      source: the images.
      balance: 0 for no repetition, 1 for equal numbers of all kinds.
      check: is called with name and shape of each image if all are read, as is done for a balance above 0.

    Returns:
      [M] int, the repetitions of an image one after the other.
    """
    if balance == 0:
        return np.arange(len(source))
    kinds = []
    for index in range(len(source)):
        record = source[index]
        if check is not None:
            check(record.name, record.image.shape)
        kinds.append(image_kind(record.image))
    counts = Counter(kinds)
    largest = max(counts.values())
    return np.repeat(np.arange(len(source)), [round((largest / counts[kind]) ** balance) for kind in kinds])
