"""The pixels that true and predicted instances have in common: one table for all instance metrics."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from scipy import sparse

from segjax.segmentation import Segmentation
from segjax.typing import IGNORE

# Rows of both label images are compared in blocks of about this many pixels, to limit memory.
BLOCK = 2**20
# The challenge NeurIPS 2022 leaves out instances that have a pixel in this border of the image, pixels.
BORDER = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """Instances of one label image.

    Attributes:
      ids: [N] int64, ids in the label image.
      areas: [N] int64, pixels that are not ignored.
      classes: [N] int32.
      scores: [N] float32.
      inner: [N] bool, False if the instance has a pixel within `BORDER` pixels of the edge of the image.
    """

    ids: np.ndarray
    areas: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    inner: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: np.ndarray) -> Objects:
        return Objects(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True, eq=False)
class Overlaps:
    """The pairs of instances that overlap, ordered by `rows`, then `columns`.

    Attributes:
      truth: the N true instances.
      prediction: the M predicted instances.
      rows: [P] int64, indices of true instances.
      columns: [P] int64, indices of predicted instances.
      pixels: [P] int64, number of common pixels, at least 1.
    """

    truth: Objects
    prediction: Objects
    rows: np.ndarray
    columns: np.ndarray
    pixels: np.ndarray

    @classmethod
    def of(cls, truth: Segmentation, prediction: Segmentation) -> Overlaps:
        """Counts the common pixels of all pairs of instances, regardless of their class.

        Pixels that are `IGNORE` in the truth are not counted, and an instance with more than half of its
        pixels there is left out.

        Raises:
          ValueError: if shapes differ.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in shape")
        table = _contingency(truth, prediction)
        sums = np.asarray(table.sum(axis=1)).ravel(), np.asarray(table.sum(axis=0)).ravel()
        ignored = truth.semantic == IGNORE
        if ignored.any():
            table = table - _contingency(truth, prediction, ignored)
            table.eliminate_zeros()
        true, true_index = _visible(truth, sums[0], ignored)
        predicted, index = _visible(prediction, sums[1], ignored)
        pairs = table.tocoo()
        rows, columns = true_index[pairs.row], index[pairs.col]
        both = (rows >= 0) & (columns >= 0)
        return cls(true, predicted, rows[both], columns[both], pairs.data[both])

    @functools.cached_property
    def iou(self) -> np.ndarray:
        """[P] float64, intersection over union of each pair."""
        return self.pixels / self.union

    @functools.cached_property
    def union(self) -> np.ndarray:
        """[P] int64, pixels of either instance of each pair."""
        return self.truth.areas[self.rows] + self.prediction.areas[self.columns] - self.pixels

    def select(self, true: np.ndarray, predicted: np.ndarray) -> Overlaps:
        """Returns the table of the instances where `true` [N] and `predicted` [M] are True."""
        if true.all() and predicted.all():
            return self
        both = true[self.rows] & predicted[self.columns]
        return Overlaps(
            self.truth[true],
            self.prediction[predicted],
            (np.cumsum(true) - 1)[self.rows[both]],
            (np.cumsum(predicted) - 1)[self.columns[both]],
            self.pixels[both],
        )

    def of_class(self, index: int) -> Overlaps:
        """Returns the table of the instances of one class."""
        return self.select(self.truth.classes == index, self.prediction.classes == index)

    def inner(self) -> Overlaps:
        """Returns the table of the instances away from the edges of the image."""
        return self.select(self.truth.inner, self.prediction.inner)


def _contingency(
    truth: Segmentation, prediction: Segmentation, where: np.ndarray | None = None
) -> sparse.csr_array:
    """Returns the sparse [N + 1, M + 1] number of pixels of each pair of ids, background included.

    Pixels are counted in runs along the rows: instances are compact, so there are far fewer runs.
    """
    shape = truth.num_instances + 1, prediction.num_instances + 1
    first, second = truth.labels.ravel(), prediction.labels.ravel()
    if where is not None:
        first, second = first[where.ravel()], second[where.ravel()]
    table = sparse.csr_array(shape, dtype=np.int64)
    parts: list[tuple[np.ndarray, ...]] = []
    for start in range(0, first.size, BLOCK):
        one, other = first[start : start + BLOCK], second[start : start + BLOCK]
        changes = np.ones(one.size, bool)
        np.not_equal(one[1:], one[:-1], out=changes[1:])
        changes[1:] |= other[1:] != other[:-1]
        starts = np.flatnonzero(changes)
        parts.append((np.diff(starts, append=one.size), one[starts], other[starts]))
        if start + BLOCK >= first.size or sum(len(part[0]) for part in parts) > 4 * BLOCK:
            lengths, rows, columns = (np.concatenate(values) for values in zip(*parts, strict=True))
            table = table + sparse.coo_array((lengths, (rows, columns)), shape).tocsr()
            parts = []
    table.sort_indices()
    return table


def _visible(
    segmentation: Segmentation, areas: np.ndarray, ignored: np.ndarray
) -> tuple[Objects, np.ndarray]:
    """Returns the instances of which at most half is ignored, and the index of each id, -1 if it is left out.

    Args:
      segmentation: N instances.
      areas: [N + 1] areas, ignored pixels included, of the background and the instances.
      ignored: [H, W] bool.
    """
    labels = segmentation.labels
    hidden = np.bincount(labels[ignored], minlength=len(areas))
    ids = np.flatnonzero(2 * hidden[1:] <= areas[1:]) + 1
    index = np.full(len(areas), -1)
    index[ids] = np.arange(len(ids))
    is_outer = np.zeros(len(areas), bool)
    for edge in (np.s_[:BORDER], np.s_[-BORDER:], np.s_[:, :BORDER], np.s_[:, -BORDER:]):
        is_outer[labels[edge][~ignored[edge]]] = True
    classes, scores = segmentation.classes[ids - 1], segmentation.scores[ids - 1]
    return Objects(ids, (areas - hidden)[ids], classes, scores, ~is_outer[ids]), index
