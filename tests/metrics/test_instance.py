import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from segjax.metrics import overlaps
from segjax.metrics.assignment import assign
from segjax.metrics.instance import THRESHOLDS, InstanceStatistics
from segjax.metrics.instance_scores import InstanceScores
from segjax.metrics.options import InstanceOptions
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE
from tests.oracles import instance as oracle


def of_labels(labels, semantic=None) -> Segmentation:
    return Segmentation.from_labels(np.asarray(labels, np.int64), semantic=semantic)


def statistics(truth, prediction) -> InstanceStatistics:
    return InstanceStatistics.of(of_labels(truth), of_labels(prediction))


def flat(scores: InstanceScores) -> dict:
    return {
        f"{name} {key}": item
        for name, value in vars(scores).items()
        for key, item in (value if isinstance(value, dict) else {"": value}).items()
    }


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


# At an IoU of 0.25, the assignment of seed 57 depends on pairs that do not pass.
@pytest.mark.parametrize("seed", [*range(40), 57])
def test_agrees_with_the_best_assignment_and_with_argmax(seed):
    truth, prediction = random_pair(seed)
    thresholds = (0.5, 0.1, 0.25, 0.3, 0.45, 0.6, 0.75)
    counts = InstanceStatistics.of(of_labels(truth), of_labels(prediction), thresholds)
    for row, strict in enumerate((False, True)):
        expected = [oracle.matched(truth, prediction, threshold, strict) for threshold in thresholds]
        assert counts.matched[row].tolist() == [tp for tp, _ in expected]
        np.testing.assert_allclose(counts.sum_iou[row], [iou for _, iou in expected], rtol=1e-12)
    assert (counts.intersection, counts.union) == oracle.aggregated_jaccard(truth, prediction)
    assert (counts.splits, counts.merges) == oracle.splits_and_merges(truth, prediction)
    best = sum(iou for _, _, iou in oracle.assigned(truth, prediction))
    assert counts.assigned[0].sum() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_scores_of_one_to_one_assignments_agree_with_the_dense_ones(seed):
    truth, prediction = random_pair(seed, count=8)
    scores = statistics(truth, prediction).compute(InstanceOptions(empty="zero"))
    above, below = oracle.aggregated_jaccard_plus(truth, prediction)
    assert scores.aji_plus == pytest.approx(above / max(below, 1), rel=1e-12)
    assert scores.sorted_ap == pytest.approx(oracle.sorted_ap(truth, prediction), rel=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_the_sparse_assignment_is_as_heavy_as_the_dense_one(seed):
    rng = np.random.default_rng(seed)
    weights = rng.random((rng.integers(1, 15), rng.integers(1, 15))) * (rng.random() > 0.3)
    weights = np.where(rng.random(weights.shape) < rng.random(), weights, 0)
    if seed % 3 == 0:
        weights = np.round(weights, 1)  # ties
    rows, columns = np.nonzero(weights)
    pairs = assign(rows, columns, weights[rows, columns])
    assert len(set(rows[pairs])) == len(set(columns[pairs])) == len(pairs)
    expected = weights[linear_sum_assignment(weights, maximize=True)].sum()
    assert weights[rows, columns][pairs].sum() == pytest.approx(expected, rel=1e-12)


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

# What the tools say of the same toys, and at which index segjax says something else on purpose.
COLUMNS = (
    "stardist accuracy",
    "stardist F1",
    "stardist PQ",
    "cellpose AP",
    "cellpose AJI",
    "HoVer-Net PQ",
    "HoVer-Net AJI",
    "AJI+",
    "cellseg-metrics PQ",
    "cellseg-metrics AJI",
    "BBBC F1",
)
NAN, ERROR = math.nan, "error"
GOLDEN = {
    "both empty": (nothing, nothing, (0, 0, 0, NAN, NAN, ERROR, ERROR, NAN, 0, 0, 0)),
    "GT empty, 1 pred": (nothing, one, (0,) * 11),
    "1 GT, pred empty": (one, nothing, (0, 0, 0, 0, 0, 0, ERROR, 0, 0, 0, 0)),
    "perfect, ids {1,5}": (apart, apart, (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5)),
    "perfect 2, no background": (full, full, (1, 1, 1, math.inf, 1, ERROR, ERROR, ERROR, 1, 1, 1)),
    "merge, IoU exactly .5/.5": (
        halves,
        one,
        (0.5, 0.667, 0.333, 0.5, 0.5, 0, 0.5, 0.333, 0, 0.5, 0),
    ),
    "split, IoU exactly .5/.5": (
        one,
        halves,
        (0.5, 0.667, 0.333, 0.5, 0.5, 0, 0.333, 0.333, 0, 0.5, 0),
    ),
    "merge 60/40": (uneven, one, (0.5, 0.667, 0.4, 0.5, 0.6, 0.4, 0.5, 0.4286, 0.4, 0.5, 0.667)),
    "1 exact + 1 IoU .6 + 1 px FP": (
        exact_and_60,
        with_a_pixel,
        (0.667, 0.8, 0.64, 0.667, 0.7, 0.64, 0.7, 0.7, 0.64, 0.7, 0.8),
    ),
}
# (row, column): what segjax says, and why.
DIFFERENCES = {
    ("both empty", "HoVer-Net PQ"): (NAN, "no score instead of a ZeroDivisionError"),
    ("both empty", "HoVer-Net AJI"): (NAN, "no score instead of a ValueError"),
    ("both empty", "cellseg-metrics PQ"): (NAN, "no score: nothing was asked for and nothing was said"),
    ("both empty", "cellseg-metrics AJI"): (NAN, "no score: nothing was asked for and nothing was said"),
    ("both empty", "BBBC F1"): (NAN, "no score: nothing was asked for and nothing was said"),
    ("1 GT, pred empty", "HoVer-Net AJI"): (0, "0 instead of a ValueError"),
    ("perfect, ids {1,5}", "BBBC F1"): (1, "BBBC's histogram needs ids without gaps"),
    ("perfect 2, no background", "cellpose AP"): (1, "cellpose counts one instance too few"),
    ("perfect 2, no background", "HoVer-Net PQ"): (1, "HoVer-Net needs a pixel of background"),
    ("perfect 2, no background", "HoVer-Net AJI"): (1, "HoVer-Net needs a pixel of background"),
    ("perfect 2, no background", "AJI+"): (1, "HoVer-Net needs a pixel of background"),
    ("merge 60/40", "cellpose AJI"): (0.5, "cellpose divides by the union of the foregrounds"),
    ("split, IoU exactly .5/.5", "cellpose AJI"): (1 / 3, "cellpose divides by the union of the foregrounds"),
    ("split, IoU exactly .5/.5", "cellseg-metrics AJI"): (1 / 3, "cellseg-metrics takes both halves"),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name, column):
    truth, prediction, row = GOLDEN[name]
    expected, _ = DIFFERENCES.get((name, column), (row[COLUMNS.index(column)], ""))
    tool, _, score = column.rpartition(" ")
    options = InstanceOptions(
        strict=tool in ("HoVer-Net", "cellseg-metrics", "BBBC"), empty="zero" if tool == "stardist" else "nan"
    )
    scores = flat(statistics(truth, prediction).compute(options))
    fields = {"accuracy": "ap 0.5", "AP": "ap 0.5", "AJI+": "aji_plus "}
    value = scores[fields.get(score, f"{score.lower()} ")]
    assert value == pytest.approx(expected, abs=5e-4, nan_ok=True)


def test_each_difference_is_one():
    for (name, column), (value, _) in DIFFERENCES.items():
        said = GOLDEN[name][2][COLUMNS.index(column)]
        assert said == ERROR or said != pytest.approx(value, abs=5e-4)


def test_numbers_by_hand():
    # 4 pixels predicted exactly, 3 of 5 predicted, one invented.
    scores = statistics(exact_and_60, with_a_pixel).compute()
    assert scores.ap == {t: pytest.approx(2 / 3 if t <= 0.6 else 1 / 4) for t in THRESHOLDS}
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.recall == 1
    assert scores.sq == scores.mean_true_score == pytest.approx((1 + 0.6) / 2)
    assert scores.rq == scores.f1
    assert (scores.recall_by_size["q1"], scores.recall_by_size["q4"]) == (1, 1)
    assert scores.f1_by_iou == {t: 4 / 5 if t <= 0.6 else 2 / 5 for t in THRESHOLDS}
    assert scores.pq_by_iou == {t: pytest.approx(3.2 / 5 if t <= 0.6 else 2 / 5) for t in THRESHOLDS}
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
    assert flat((counts + empty).compute()) == pytest.approx(
        flat(counts.compute()), rel=0, abs=0, nan_ok=True
    )


@pytest.mark.parametrize(
    ("empty", "expected"),
    [("nan", (NAN, 0)), ("zero", (0, 0)), ("one", (1, 0)), ("nan_without_truth", (NAN, NAN))],
)
def test_the_score_of_an_empty_image_is_stated(empty, expected):
    options = InstanceOptions(empty=empty)
    for prediction, value in zip((nothing, one), expected, strict=True):
        scores = statistics(nothing, prediction).compute(options)
        for name in ("f1", "precision", "recall", "pq", "sq", "aji", "aji_plus", "sorted_ap", "mean_ap"):
            assert getattr(scores, name) == pytest.approx(value, nan_ok=True)


def strip(*spans, width=16):
    """A label map of one row; each span is (first column, column after the last)."""
    labels = np.zeros((1, width), int)
    for index, (start, stop) in enumerate(spans, start=1):
        labels[0, start:stop] = index
    return labels


def test_below_a_half_two_pairs_are_better_than_one_of_more_overlap():
    # IoU 6 / 14 of the first with the second, 2 / 10 of the first with the first, 2 / 11 of the second.
    pair = (of_labels(labels) for labels in (strip((0, 10), (12, 15)), strip((0, 2), (4, 14))))
    truth, prediction = pair
    counts = InstanceStatistics.of(truth, prediction, (0.1, 0.4))
    assert counts.matched[0].tolist() == [2, 1]
    assert counts.sum_iou[0] == pytest.approx([2 / 10 + 2 / 11, 6 / 14])
    assert counts.assigned[0] == pytest.approx([6 / 14])


def test_below_a_half_three_pairs_are_better_than_two_of_much_more_overlap():
    # Each prediction covers nine tenths of the next true instance, and little of its own.
    truth = strip((0, 2), (2, 22), (22, 42), width=44)
    prediction = strip((0, 20), (20, 40), (40, 42), width=44)
    counts = InstanceStatistics.of(of_labels(truth), of_labels(prediction), (0.05,))
    assert counts.matched[0].tolist() == [3]
    assert counts.sum_iou[0] == pytest.approx([2 / 20 + 2 / 38 + 2 / 20])


def test_of_two_equal_pairs_of_a_row_the_one_that_leaves_more_to_others_is_assigned():
    rows, columns, weights = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.5, 0.5, 0.4])
    assert assign(rows, columns, weights).tolist() == [1, 2]


def test_splits_and_merges_by_hand():
    assert [getattr(statistics(one, halves).compute(), name) for name in ("splits", "merges")] == [1, 0]
    assert [getattr(statistics(halves, one).compute(), name) for name in ("splits", "merges")] == [0, 1]


def test_sorted_ap_by_hand():
    # Two of three pairs: AP falls from 2/3 to 1/4 at IoU 0.6, and to 0 at 1, along straight lines.
    scores = statistics(exact_and_60, with_a_pixel).compute()
    assert scores.sorted_ap == pytest.approx(0.6 * 2 / 3 + 0.4 * (2 / 3 + 1 / 4) / 2)
    assert statistics(apart, apart).compute().sorted_ap == 1


def test_recall_by_size_by_hand():
    # Areas 1, 4, 9 and 16; the second and the last are predicted.
    squares = [((0, 1), (0, 1), 1), ((3, 5), (0, 2), 2), ((6, 9), (0, 3), 3), ((0, 4), (5, 9), 4)]
    counts = statistics(blocks(*squares), blocks(*squares[1::2]))
    scores = counts.compute()
    assert scores.recall_by_size == {"q1": 0, "q2": 1, "q3": 0, "q4": 1}
    assert scores.size_quartiles == {"25 %": 3.25, "50 %": 6.5, "75 %": 10.75}
    assert (counts + counts).compute().recall_by_size == scores.recall_by_size


def test_an_area_at_a_quartile_belongs_to_the_smaller_quarter_and_an_empty_one_has_no_recall():
    areas = [strip(*((3 * index, 3 * index + 2) for index in range(count)), width=16) for count in (5, 1)]
    scores = statistics(*areas).compute()
    assert set(scores.size_quartiles.values()) == {2}
    assert scores.recall_by_size["q1"] == pytest.approx(1 / 5)
    assert all(math.isnan(scores.recall_by_size[name]) for name in ("q2", "q3", "q4"))


def test_the_mean_ap_is_that_of_all_thresholds():
    counts = InstanceStatistics.of(of_labels(exact_and_60), of_labels(with_a_pixel), (0.5, 0.9))
    assert counts.compute().mean_ap == pytest.approx((2 / 3 + 1 / 4) / 2)


def test_a_pair_of_exactly_the_threshold_matches_unless_that_is_strict():
    counts = statistics(exact_and_60, with_a_pixel)
    assert [counts.compute(InstanceOptions(strict=strict)).ap[0.6] for strict in (False, True)] == [
        2 / 3,
        1 / 4,
    ]


def test_the_sum_of_counts_is_the_same_in_any_order_to_the_last_bit():
    counts = [statistics(*random_pair(seed)) for seed in range(12)]
    expected = sum(counts[1:], start=counts[0]).compute()
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = rng.permutation(len(counts))
        halves_of_it = [
            sum((counts[i] for i in part[1:]), start=counts[part[0]]) for part in np.split(order, 2)
        ]
        assert flat((halves_of_it[0] + halves_of_it[1]).compute()) == flat(expected)


@pytest.mark.parametrize("block", [1, 7, 500])
def test_large_images_are_counted_in_blocks(monkeypatch, block):
    pair = random_pair(3)
    expected = statistics(*pair)
    monkeypatch.setattr(overlaps, "BLOCK", block)
    assert flat(statistics(*pair).compute()) == pytest.approx(flat(expected.compute()), rel=0, nan_ok=True)


@pytest.mark.parametrize("pixels", [4, 5, 8, 9])
def test_the_last_pixel_of_a_block_and_of_the_image_counts(monkeypatch, pixels):
    monkeypatch.setattr(overlaps, "BLOCK", 4)
    counts = statistics(np.ones((1, pixels)), np.ones((1, pixels)))
    assert (counts.areas[0].tolist(), counts.intersection) == ([pixels], pixels)


def test_counts_at_other_thresholds_do_not_add_up():
    with pytest.raises(ValueError, match="thresholds"):
        InstanceStatistics.empty() + InstanceStatistics.empty((0.5,))


def test_adding_is_pooling_the_instances():
    # Beside each other with a margin, no instance of one touches one of the other.
    pairs = [random_pair(seed) for seed in range(4)]
    joined = [
        np.concatenate([np.where(m > 0, m + 10_000 * k, 0) for k, m in enumerate(maps)])
        for maps in zip(*pairs, strict=True)
    ]
    pooled = sum((statistics(*pair) for pair in pairs), start=InstanceStatistics.empty())
    assert flat(pooled.compute()) == pytest.approx(flat(statistics(*joined).compute()))


@pytest.mark.parametrize("seed", range(5))
def test_ids_do_not_matter(seed):
    truth, prediction = random_pair(seed)
    other = np.random.default_rng(seed).permutation(2000)
    other = np.where(np.arange(2000) == 0, 0, other + 1)
    renamed = flat(statistics(other[truth], other[prediction]).compute())
    expected = flat(statistics(truth, prediction).compute())
    for scores in (renamed, expected):  # of predictions with equal IoU they take the first
        del scores["aji "], scores["aji_plus "]
    assert renamed == pytest.approx(expected, nan_ok=True)


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
    thresholds = (0.5, 0.1, 0.25, 0.4, 0.75, 0.9)
    for truth, prediction in pairs:
        counts = InstanceStatistics.of(of_labels(truth), of_labels(prediction), thresholds)
        for index, peer in enumerate(stardist.matching(truth, prediction, thresh=thresholds)):
            assert (counts.matched[0, index], counts.num_true, counts.num_predicted) == (
                peer.tp,
                peer.n_true,
                peer.n_pred,
            )
            assert counts.sum_iou[0, index] == pytest.approx(peer.mean_true_score * peer.n_true, rel=1e-5)
    pooled = sum((statistics(*pair) for pair in pairs), start=InstanceStatistics.empty())
    peer = stardist.matching_dataset(*zip(*pairs, strict=True), thresh=0.5, show_progress=False)
    scores = pooled.compute()
    values = [getattr(scores, k) for k in ("f1", "precision", "recall", "pq", "sq", "mean_true_score")]
    expected = [peer.f1, peer.precision, peer.recall, peer.panoptic_quality]
    expected += [peer.mean_matched_score, peer.mean_true_score]
    np.testing.assert_allclose([scores.ap[0.5], *values], [peer.accuracy, *expected], rtol=1e-5)


@pytest.mark.peers
def test_agrees_with_cellpose_where_there_is_background():
    metrics = pytest.importorskip("cellpose.metrics", reason="cellpose is not installed")
    pairs = [tuple(of_labels(labels).labels for labels in random_pair(seed)) for seed in range(40)]
    pairs = [pair for pair in pairs if all(labels.any() for labels in pair)]
    thresholds = [0.5, 0.75, 0.9]
    precisions = metrics.average_precision(*map(list, zip(*pairs, strict=True)), threshold=thresholds)[0]
    for pair, expected in zip(pairs, precisions, strict=True):
        scores = InstanceStatistics.of(*map(of_labels, pair), thresholds).compute()
        assert list(scores.ap.values()) == pytest.approx(expected, rel=1e-6)
