"""Corrections of a segmentation by hand; each returns a new segmentation whose ids are 1 to N again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.draw import polygon as fill_polygon

from segjax.errors import InputError
from segjax.segmentation import Segmentation


def delete(segmentation: Segmentation, ids: Sequence[int]) -> Segmentation:
    """Removes cells; their pixels become background.

    Raises:
      InputError: if there is no cell with one of the ids.
    """
    is_removed = _selected(segmentation, ids)[segmentation.labels]
    labels = np.where(is_removed, 0, segmentation.labels)
    semantic = np.where(is_removed, 0, segmentation.semantic)
    return _rebuilt(labels, segmentation.classes, segmentation.scores, semantic)


def merge(segmentation: Segmentation, ids: Sequence[int]) -> Segmentation:
    """Joins cells to one, which has the smallest of their ids, and the class and score of the largest cell.

    Raises:
      InputError: if there is no cell with one of the ids, or fewer than two are named.
    """
    if len(set(ids)) < 2:
        raise InputError("a merge needs two cells or more: select them")
    selected = _selected(segmentation, ids)
    areas = np.bincount(segmentation.labels.ravel(), minlength=len(selected))
    largest = int(np.argmax(np.where(selected, areas, 0))) - 1
    first = min(ids)
    is_merged = selected[segmentation.labels]
    classes, scores = segmentation.classes.copy(), segmentation.scores.copy()
    classes[first - 1], scores[first - 1] = classes[largest], scores[largest]
    labels = np.where(is_merged, first, segmentation.labels)
    semantic = np.where(is_merged, classes[first - 1], segmentation.semantic)
    return _rebuilt(labels, classes, scores, semantic)


def draw(segmentation: Segmentation, outline: Sequence[tuple[float, float]], class_id: int) -> Segmentation:
    """Adds a cell with score 1 on top of the others, which lose the pixels that it covers.

    Args:
      segmentation: [H, W] segmentation.
      outline: vertices `(x, y)` in pixels, pixel centres at integers.
      class_id: class of the cell, at least 1.

    Raises:
      InputError: if the outline covers no pixel.
    """
    rows, columns = np.zeros(0, int), np.zeros(0, int)
    if len(outline) > 2:
        x, y = np.asarray(outline, float).T
        rows, columns = fill_polygon(y, x, segmentation.shape)
    if not len(rows):
        raise InputError("the outline covers no pixel: draw around a cell, inside the image")
    labels, semantic = segmentation.labels.copy(), segmentation.semantic.copy()
    labels[rows, columns], semantic[rows, columns] = segmentation.num_instances + 1, class_id
    classes = np.append(segmentation.classes, np.int32(class_id))
    return _rebuilt(labels, classes, np.append(segmentation.scores, np.float32(1)), semantic)


def _selected(segmentation: Segmentation, ids: Sequence[int]) -> np.ndarray:
    """Returns [N + 1] bool, whether an id is selected."""
    selected = np.zeros(segmentation.num_instances + 1, bool)
    for index in ids:
        if not 1 <= index <= segmentation.num_instances:
            raise InputError(
                f"there is no cell {index} among {segmentation.num_instances}: the cells have changed, select"
                " again"
            )
        selected[index] = True
    return selected


def _rebuilt(
    labels: np.ndarray, classes: np.ndarray, scores: np.ndarray, semantic: np.ndarray
) -> Segmentation:
    """Returns the segmentation of the ids that have pixels."""
    present = np.unique(labels[labels > 0]) - 1
    return Segmentation.from_labels(
        labels, classes=classes[present], scores=scores[present], semantic=semantic
    )
