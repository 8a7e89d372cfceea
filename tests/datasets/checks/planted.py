"""Healthy images with annotations, for tests to damage."""

from functools import cache

import numpy as np

from segjax.data.records import Record
from segjax.datasets.checks.summary import Summary, summarise
from segjax.datasets.formats import RawAnnotation
from segjax.datasets.synthetic import draw
from segjax.segmentation import Segmentation

NUM_CLASSES = 3


@cache
def _drawn(seed: int, size: int, channels: int, bits: int) -> tuple[np.ndarray, Segmentation]:
    image, truth = draw(np.random.default_rng(seed), shape=(size, size), channels=channels, bits=bits)
    area = np.bincount(truth.labels.ravel())[1:]
    whole = area >= np.where(truth.classes == 1, 100, 8)
    labels = np.where(np.concatenate([[False], whole])[truth.labels], truth.labels, 0)
    return image, Segmentation.from_labels(labels, classes=truth.classes[whole])


def healthy(seed: int = 0, *, size: int = 128, channels: int = 1, bits: int = 16):
    """An image and its truth, without what is left of cells that others cover."""
    image, truth = _drawn(seed, size, channels, bits)
    return image.copy(), truth


def raw(truth: Segmentation, **changes) -> RawAnnotation:
    fields = {"labels": truth.labels.copy(), "classes": dict(enumerate(truth.classes.tolist(), start=1))}
    return RawAnnotation(**{**fields, **changes})


def squares(size: int = 64, side: int = 8) -> np.ndarray:
    """A label map of 16 squares that do not touch."""
    labels = np.zeros((size, size), np.int32)
    step = size // 4
    for index in range(16):
        y, x = 4 + step * (index // 4), 4 + step * (index % 4)
        labels[y : y + side, x : x + side] = index + 1
    return labels


def summary(
    name: str,
    seed: int = 0,
    *,
    group: str | None = None,
    split: str | None = None,
    image: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    truth: Segmentation | None = None,
    **options,
) -> Summary:
    """The summary of a healthy image of which some parts are replaced."""
    fresh, drawn = healthy(seed, **options)
    if labels is not None:
        truth = Segmentation.from_labels(labels)
    record = Record(name, group or name, fresh if image is None else image, truth or drawn)
    return summarise(record, split=split)


def kinds(findings) -> list[str]:
    return [finding.kind for finding in findings]
