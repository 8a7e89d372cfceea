"""Chooses pairs of a bipartite graph such that no node is in two of them."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def assign(rows: np.ndarray, columns: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Chooses the pairs with the largest sum of gains; each row and each column is in at most one.

    It is a linear sum assignment on a sparse graph. The graph has a further column for each row, with gain 0,
    which means that the row is in no pair.

    Args:
      rows: [P] int, the row of each possible pair; no pair occurs twice.
      columns: [P] int, its column.
      gains: [P] float, its gain. Pairs with a gain of at most 0 are not chosen.

    Returns:
      [K] int, the indices of the chosen pairs, in ascending order.

    >>> assign(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([3.0, 2.0, 2.0])).tolist()
    [1, 2]
    """
    usable = np.flatnonzero(gains > 0)
    if not len(usable):
        return usable
    row_ids, row = np.unique(rows[usable], return_inverse=True)
    column_ids, column = np.unique(columns[usable], return_inverse=True)
    alone = np.arange(len(row_ids))
    # 1 is added to all costs, because a cost of 0 would be no edge. Each row is in exactly one pair of the
    # graph, so that this does not change the choice.
    highest = gains[usable].max()
    costs = np.concatenate([highest - gains[usable], np.full(len(alone), highest)]) + 1
    shape = (len(row_ids), len(column_ids) + len(alone))
    all_columns = np.concatenate([column, len(column_ids) + alone])
    graph = sparse.csr_array((costs, (np.concatenate([row, alone]), all_columns)), shape)
    chosen_rows, chosen_columns = sparse.csgraph.min_weight_full_bipartite_matching(graph)
    partner = np.empty(len(row_ids), np.int64)
    partner[chosen_rows] = chosen_columns
    return usable[partner[row] == column]
