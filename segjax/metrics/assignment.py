"""One-to-one assignments of true and predicted instances with the largest sum of weights."""

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from segjax.metrics.overlaps import Overlaps


def match(overlaps: Overlaps, threshold: float, *, strict: bool = False) -> np.ndarray:
    """Returns the indices of the pairs that pass, in the assignment with the most such pairs.

    Among several, it has the largest sum of IoU.

    Args:
      overlaps: P pairs of instances.
      threshold: a pair needs at least this IoU.
      strict: whether it needs more than that.
    """
    iou = overlaps.iou
    passes = iou > threshold if strict else iou >= threshold
    if threshold < 0.5:
        # As in StarDist: no sum of IoU is worth as much as one more pair, and pairs that do not pass are
        # assigned, too.
        count = max(1, min(len(overlaps.truth), len(overlaps.prediction)))
        pairs = assign(overlaps.rows, overlaps.columns, passes + iou / (2 * count))
        return pairs[passes[pairs]]
    pairs = np.flatnonzero(passes)
    if threshold == 0.5 and not strict:
        # Above 0.5 no instance has two partners. At 0.5 it can have two, its exact halves.
        for ids in (overlaps.rows, overlaps.columns):
            pairs = pairs[is_first(ids[pairs])]
    return pairs


def assign(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the indices of the pairs that use no row and no column twice, and have the most weight.

    A pair that weighs as much as the heaviest other pair of its row and the heaviest other of its column
    together belongs to a best assignment. Nearly all pairs of real label images are decided by that.

    Args:
      rows: [P] int, at least 0.
      columns: [P] int, at least 0.
      weights: [P] float, above 0.
    """
    left, taken = np.arange(len(rows)), []
    while len(left):
        others = _heaviest_other(rows[left], weights[left]) + _heaviest_other(columns[left], weights[left])
        sure = left[weights[left] >= others]
        for ids in (rows, columns):
            sure = sure[is_first(ids[sure])]
        if not len(sure):
            taken.append(left[_solve(rows[left], columns[left], weights[left])])
            break
        taken.append(sure)
        used = _marked(rows[sure], rows)[rows[left]] | _marked(columns[sure], columns)[columns[left]]
        left = left[~used]
    return np.sort(np.concatenate(taken)) if taken else left


def is_first(ids: np.ndarray) -> np.ndarray:
    """Returns whether each of the ids [P] is not among those before it.

    >>> is_first(np.array([4, 1, 4, 0])).tolist()
    [True, True, False, True]
    """
    order = np.arange(len(ids))
    first = np.zeros(ids.max(initial=0) + 1, np.int64)
    first[ids[::-1]] = order[::-1]  # the last value that is assigned stays
    return first[ids] == order


def heaviest(ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the largest weight of each id, [largest id + 1]; 0 for ids that are not there."""
    result = np.zeros(ids.max(initial=0) + 1)
    np.maximum.at(result, ids, weights)
    return result


def _heaviest_other(ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns for each pair the largest weight of the other pairs with the same id, 0 if there is none."""
    first = heaviest(ids, weights)
    is_heaviest = weights == first[ids]
    second = np.zeros(len(first))
    np.maximum.at(second, ids[~is_heaviest], weights[~is_heaviest])
    second = np.where(np.bincount(ids[is_heaviest], minlength=len(first)) > 1, first, second)
    return np.where(is_heaviest, second[ids], first[ids])


def _marked(ids: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Returns a table that is True at some ids, [largest id of all + 1] bool."""
    table = np.zeros(every.max() + 1, bool)
    table[ids] = True
    return table


def _solve(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns a best assignment of any pairs: indices of pairs."""
    row_ids, row = np.unique(rows, return_inverse=True)
    column_ids, column = np.unique(columns, return_inverse=True)
    # Each row may take a column of its own, of weight 0. All weights are raised by 1, as a sparse matrix
    # does not hold zeros: each row takes one column, so all assignments gain the same.
    own = np.arange(len(row_ids))
    graph = sparse.csr_array(
        (
            np.r_[weights, np.zeros(len(own))] + 1,
            (np.r_[row, own], np.r_[column, len(column_ids) + own]),
        )
    )
    chosen = np.full(len(own), -1)
    chosen_rows, chosen_columns = min_weight_full_bipartite_matching(graph, maximize=True)
    chosen[chosen_rows] = chosen_columns
    return np.flatnonzero(chosen[row] == column)
