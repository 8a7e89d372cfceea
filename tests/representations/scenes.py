"""Labels and batches for the tests of all representations."""

import numpy as np

from segjax.data.targets import TARGETS


def disc(shape, y, x, radius):
    rows, columns = np.indices(shape)
    return np.hypot(rows - y, columns - x) < radius


def touching():
    """A pair of equal cells, one with a smaller one, three in a row, and one alone."""
    labels = np.zeros((64, 96), np.int32)
    cells = ((14, 14, 9), (14, 30, 9), (14, 58, 10), (14, 72, 6), (44, 14, 9), (44, 30, 9), (44, 46, 9))
    for index, cell in enumerate((*cells, (44, 80, 8)), start=1):
        labels[disc(labels.shape, *cell) & (labels == 0)] = index
    return labels


def batch_of(*labels):
    """A batch with every target; every instance is of class 1."""
    stacked = np.stack(labels)
    batch = {"labels": stacked, "semantic": (stacked > 0).astype(np.int32)}
    return batch | {name: np.stack([target(one) for one in labels]) for name, target in TARGETS.items()}


def iou(truth, decoded):
    """The IoU of each true instance with the decoded one that covers it best."""
    best = []
    for index in np.unique(truth[truth > 0]):
        inside = truth == index
        ids, counts = np.unique(decoded[inside & (decoded > 0)], return_counts=True)
        if not len(ids):
            best.append(0.0)
            continue
        other = decoded == ids[counts.argmax()]
        best.append((inside & other).sum() / (inside | other).sum())
    return np.array(best)
