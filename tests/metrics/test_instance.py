import math

import numpy as np
import pytest

from segjax.metrics.instance import THRESHOLDS, InstanceScores, InstanceStatistics
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE
from tests.oracles import instance as oracle


def of_labels(labels, semantic=None) -> Segmentation:
    return Segmentation.from_labels(np.asarray(labels, np.int64), semantic=semantic)


def statistics(truth, prediction) -> InstanceStatistics:
    return InstanceStatistics.of(of_labels(truth), of_labels(prediction))


def flat(scores: InstanceScores) -> dict:
    return {**vars(scores), **{f"ap {t}": value for t, value in scores.ap.items()}, "ap": 0}


def random_pair(seed: int, shape=(32, 40), count=12):
    """Overlapping rectangles with sparse ids, and the same moved, cut, merged, missing and invented."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(1000)[: 3 * count] + 1
    truth, prediction = np.zeros((2, *shape), int)
    for index in range(rng.integers(count + 1)):
        y, x = rng.integers(0, shape)
        h, w = rng.integers(1, 6, 2) * 2
        truth[y : y + h, x : x + w] = ids[index]
        if rng.random() < 0.8:
            dy, dx = np.maximum([y, x] + rng.integers(-1, 2, 2) * (rng.random() < 0.7), 0)
            prediction[dy : dy + h, dx : dx + w] = ids[2 * count - 1 - index]
            if rng.random() < 0.3:  # one half gets an id of its own, or of a neighbour
                prediction[dy : dy + h, dx : dx + w // 2] = ids[2 * count + rng.integers(count)]
    return truth, prediction


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_the_best_assignment_and_with_argmax(seed):
    truth, prediction = random_pair(seed)
    counts = statistics(truth, prediction)
    expected = [oracle.matched(truth, prediction, threshold) for threshold in THRESHOLDS]
    assert counts.matched.tolist() == [tp for tp, _ in expected]
    np.testing.assert_allclose(counts.sum_iou, [iou for _, iou in expected], rtol=1e-12)
    assert (counts.intersection, counts.union) == oracle.aggregated_jaccard(truth, prediction)


def blocks(*rectangles):
    """A 12 x 12 label map; each rectangle is (rows, columns, id)."""
    labels = np.zeros((12, 12), int)
    for rows, columns, index in rectangles:
        labels[slice(*rows), slice(*columns)] = index
    return labels


nothing = blocks()
one = blocks(((0, 10), (0, 10), 1))
apart = blocks(((1, 5), (1, 5), 1), ((6, 10), (6, 10), 5))
full = blocks(((0, 12), (0, 6), 1), ((0, 12), (6, 12), 2))
halves = blocks(((0, 10), (0, 5), 1), ((0, 10), (5, 10), 2))
uneven = blocks(((0, 10), (0, 6), 1), ((0, 10), (6, 10), 2))
exact_and_60 = blocks(((0, 2), (0, 2), 1), ((4, 5), (0, 5), 2))
with_a_pixel = blocks(((0, 2), (0, 2), 1), ((4, 5), (0, 3), 2), ((11, 12), (11, 12), 3))

# What stardist, HoVer-Net and the MoNuSeg code say of the same toys: AP, F1, PQ, AJI.
GOLDEN = {
    "GT empty, 1 pred": (nothing, one, (0, 0, 0, 0)),
    "1 GT, pred empty": (one, nothing, (0, 0, 0, 0)),
    "perfect, ids {1,5}": (apart, apart, (1, 1, 1, 1)),
    "perfect 2, no background": (full, full, (1, 1, 1, 1)),
    "merge, IoU exactly .5/.5": (halves, one, (0.5, 0.667, 0.333, 0.5)),
    "split, IoU exactly .5/.5": (one, halves, (0.5, 0.667, 0.333, 0.333)),
    "merge 60/40": (uneven, one, (0.5, 0.667, 0.4, 0.5)),
    "1 exact + 1 IoU .6 + 1 px FP": (exact_and_60, with_a_pixel, (0.667, 0.8, 0.64, 0.7)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    truth, prediction, (ap, f1, pq, aji) = GOLDEN[name]
    scores = statistics(truth, prediction).compute()
    assert scores.ap[0.5] == pytest.approx(ap, abs=5e-4)
    assert scores.f1 == pytest.approx(f1, abs=5e-4)
    assert scores.pq == pytest.approx(pq, abs=5e-4)
    assert scores.aji == pytest.approx(aji, abs=5e-4)


def test_numbers_by_hand():
    # 4 pixels found exactly, 3 of 5 found, one invented.
    scores = statistics(exact_and_60, with_a_pixel).compute()
    assert scores.ap == {t: pytest.approx(2 / 3 if t <= 0.6 else 1 / 4) for t in THRESHOLDS}
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.recall == 1
    assert scores.sq == scores.mean_true_score == pytest.approx((1 + 0.6) / 2)
    assert scores.rq == scores.f1
    assert scores.aji == 7 / 10
    assert (scores.n_true, scores.n_pred) == (2, 3)


def test_where_there_is_nothing_there_is_no_score():
    # StarDist says 0, cellpose NaN. Pooled, such an image counts for nothing, so alone it has no score.
    empty = statistics(nothing, nothing)
    assert all(
        math.isnan(getattr(empty.compute(), name))
        for name in ("f1", "precision", "recall", "pq", "sq", "aji")
    )
    assert all(math.isnan(value) for value in empty.compute().ap.values())
    counts = statistics(exact_and_60, with_a_pixel)
    assert (counts + empty).compute() == counts.compute()


def test_adding_is_pooling_the_instances():
    # Beside each other with a margin, no instance of one touches one of the other.
    pairs = [random_pair(seed) for seed in range(4)]
    whole = [
        np.concatenate([np.where(m > 0, m + 10_000 * k, 0) for k, m in enumerate(maps)])
        for maps in zip(*pairs, strict=True)
    ]
    pooled = sum((statistics(*pair) for pair in pairs), start=InstanceStatistics.empty())
    assert flat(pooled.compute()) == pytest.approx(flat(statistics(*whole).compute()))


@pytest.mark.parametrize("seed", range(5))
def test_ids_do_not_matter(seed):
    truth, prediction = random_pair(seed)
    other = np.random.default_rng(seed).permutation(2000)
    other = np.where(np.arange(2000) == 0, 0, other + 1)
    renamed = flat(statistics(other[truth], other[prediction]).compute())
    expected = flat(statistics(truth, prediction).compute())
    del renamed["aji"], expected["aji"]  # of predictions with equal IoU it takes the first
    assert renamed == pytest.approx(expected)


def test_what_lies_mostly_in_ignored_pixels_is_left_out():
    semantic = np.zeros((12, 12), int)
    semantic[:, 6:] = IGNORE
    truth = of_labels(blocks(((0, 4), (0, 4), 1), ((6, 8), (8, 12), 2)), semantic)
    prediction = of_labels(
        blocks(
            ((0, 4), (0, 4), 1),
            ((6, 8), (8, 12), 2),  # where the truth is ignored, and so is the instance there
            ((9, 10), (5, 8), 3),  # two of three pixels
            ((11, 12), (5, 7), 4),  # half: it stays, and its judged half is wrong
        )
    )
    scores = InstanceStatistics.of(truth, prediction).compute()
    assert (scores.n_true, scores.n_pred) == (1, 2)
    assert scores.ap[0.95] == 1 / 2
    assert scores.aji == 16 / 17


def test_an_ignored_part_does_not_cost_overlap():
    semantic = np.zeros((12, 12), int)
    semantic[:, 6:] = IGNORE
    truth = of_labels(blocks(((0, 2), (0, 8), 1)), semantic)
    prediction = of_labels(blocks(((0, 2), (0, 10), 1)))
    assert InstanceStatistics.of(truth, prediction).compute().sq == 1


def test_says_what_does_not_fit():
    with pytest.raises(ValueError, match="differ in shape"):
        statistics(nothing, np.zeros((3, 3), int))


@pytest.mark.peers
def test_agrees_with_stardist():
    stardist = pytest.importorskip("stardist.matching", reason="the peers extra is not installed")
    pairs = [random_pair(seed) for seed in range(150)]
    for truth, prediction in pairs:
        counts = statistics(truth, prediction)
        for index, peer in enumerate(stardist.matching(truth, prediction, thresh=THRESHOLDS)):
            assert (counts.matched[index], counts.num_true, counts.num_predicted) == (
                peer.tp,
                peer.n_true,
                peer.n_pred,
            )
            assert counts.sum_iou[index] == pytest.approx(peer.mean_true_score * peer.n_true, rel=1e-5)
    pooled = sum((statistics(*pair) for pair in pairs), start=InstanceStatistics.empty())
    peer = stardist.matching_dataset(*zip(*pairs, strict=True), thresh=0.5, show_progress=False)
    scores = pooled.compute()
    ours = [getattr(scores, k) for k in ("f1", "precision", "recall", "pq", "sq", "mean_true_score")]
    theirs = [peer.f1, peer.precision, peer.recall, peer.panoptic_quality]
    theirs += [peer.mean_matched_score, peer.mean_true_score]
    np.testing.assert_allclose([scores.ap[0.5], *ours], [peer.accuracy, *theirs], rtol=1e-5)
