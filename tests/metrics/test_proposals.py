import numpy as np
import pytest

from segjax.metrics.proposals import ProposalStatistics
from segjax.segmentation import Segmentation


def truth():
    """Three objects: 10 x 10, 4 x 20, and one pixel; the ids are 1 to 3."""
    labels = np.zeros((40, 40), np.int32)
    labels[:10, :10], labels[20:24, 10:30], labels[39, 39] = 1, 2, 3
    return Segmentation.from_labels(labels)


@pytest.mark.parametrize(
    ("boxes", "recalled"),
    [
        ([[0, 0, 10, 10]], 1),
        ([[0, 0, 10, 5]], 1),  # half of it: exactly 0.5
        ([[0, 0, 10, 4.9]], 0),
        ([[20, 10, 24, 30]], 0),  # rows and columns exchanged
        ([[10, 20, 30, 24], [10, 20, 30, 24], [0, 0, 9, 9]], 2),
        ([[39, 39, 40, 40]], 1),
        ([], 0),
    ],
)
def test_counts_by_hand(boxes, recalled):
    counts = ProposalStatistics.of(truth(), np.array(boxes, np.float32).reshape(-1, 4))
    assert counts == ProposalStatistics(1, len(boxes), 3, recalled)


def test_pools_images():
    one = ProposalStatistics.of(truth(), np.array([[0, 0, 10, 10]]))
    dark = ProposalStatistics.of(Segmentation.from_labels(np.zeros((9, 9), np.int32)), np.zeros((5, 4)))
    total = ProposalStatistics.empty() + one + dark
    assert total.compute() == {"mean_count": 3.0, "recall": pytest.approx(1 / 3)}
    assert dark.compute() == {"mean_count": 5.0, "recall": None}
    assert ProposalStatistics.empty().compute() == {"mean_count": None, "recall": None}


def test_counts_beyond_a_round_number():
    boxes = np.zeros((513, 4), np.float32)
    boxes[512] = [0, 0, 10, 10]
    assert ProposalStatistics.of(truth(), boxes).recalled == 1
