import math

import numpy as np
import pytest

from segjax.metrics.errors import KINDS, ErrorStatistics, kinds_of
from segjax.metrics.overlaps import Overlaps
from segjax.segmentation import Segmentation
from tests.metrics.test_instance import blocks, random_pair
from tests.oracles import errors as oracle

NAMES = ("background", "nucleus", "micronucleus")


def overlaps_of(truth, prediction, true_classes=None, classes=None):
    return Overlaps.of(
        Segmentation.from_labels(truth, classes=true_classes),
        Segmentation.from_labels(prediction, classes=classes),
    )


def names(kinds):
    return [KINDS[kind] for kind in kinds]


left, right, both = ((0, 4), (0, 4)), ((0, 4), (4, 8)), ((0, 4), (0, 8))
# Truth, prediction, and their kinds; the classes are 1 unless stated.
CASES = {
    "right": ([(*both, 1)], [(*both, 1)], ["correct"], ["correct"]),
    "missed": ([(*both, 1)], [], ["missed"], []),
    "spurious": ([], [(*both, 1)], [], ["spurious"]),
    "split in three": (
        [((0, 4), (0, 12), 1)],
        [((0, 4), (0, 4), 1), ((0, 4), (4, 8), 2), ((0, 4), (8, 12), 3)],
        ["split"],
        ["split"] * 3,
    ),
    "three in one": (
        [((0, 4), (0, 4), 1), ((0, 4), (4, 8), 2), ((0, 4), (8, 12), 3)],
        [((0, 4), (0, 12), 1)],
        ["merged"] * 3,
        ["merged"],
    ),
    "a small one in the prediction of a large one": (
        [((0, 4), (0, 8), 1), ((0, 4), (8, 10), 2)],
        [((0, 4), (0, 10), 1)],
        ["correct", "merged"],
        ["correct"],
    ),
    "a bad outline": ([(*left, 1)], [((0, 4), (2, 6), 1)], ["bad_outline"], ["bad_outline"]),
    # 2 of 16 + 6 - 2 pixels.
    "an outline of a tenth": ([(*left, 1)], [((3, 6), (2, 4), 1)], ["bad_outline"], ["bad_outline"]),
    "too far away for an outline": ([(*left, 1)], [((3, 12), (3, 12), 1)], ["missed"], ["spurious"]),
    "a double": (
        [(*both, 1)],
        [((0, 4), (0, 6), 1), ((0, 4), (6, 8), 2)],
        ["correct"],
        ["correct", "double"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_kinds_by_hand(name):
    truth, prediction, true_kinds, kinds = CASES[name]
    result = kinds_of(overlaps_of(blocks(*truth), blocks(*prediction)))
    assert names(result.truth) == true_kinds
    assert names(result.prediction) == kinds


def test_a_split_instance_is_not_merged_too():
    truth, prediction = np.zeros((2, 1, 50), int)
    truth[0, :20], truth[0, 20:30] = 1, 2
    prediction[0, :3], prediction[0, 3:6], prediction[0, 9:40] = 1, 2, 3
    result = kinds_of(overlaps_of(truth, prediction))
    assert names(result.truth) == ["split", "bad_outline"]
    assert names(result.prediction) == ["split", "split", "bad_outline"]


def test_an_instance_of_the_right_class_has_the_overlap_that_it_had():
    overlaps = overlaps_of(blocks((*both, 1)), blocks(((0, 4), (0, 6), 1)), [1], [2])
    scores = ErrorStatistics.of(overlaps).compute(NAMES)["all"]["wrong_class"]
    assert (scores.d_ap, scores.d_pq) == (1, 0.75)


def test_a_pair_of_other_classes_is_of_the_wrong_class():
    result = kinds_of(overlaps_of(blocks((*both, 1)), blocks((*both, 1)), [1], [2]))
    assert names([*result.truth, *result.prediction]) == ["wrong_class"] * 2


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_one_instance_at_a_time(seed):
    truth, prediction = random_pair(seed, shape=(20, 24), count=8)
    rng = np.random.default_rng(seed)
    overlaps = overlaps_of(
        truth,
        prediction,
        rng.integers(1, 3, len(np.unique(truth[truth > 0]))),
        rng.integers(1, 3, len(np.unique(prediction[prediction > 0]))),
    )
    sides = (
        (labels, dict(zip(np.unique(labels[labels > 0]).tolist(), objects.classes, strict=True)))
        for labels, objects in ((truth, overlaps.truth), (prediction, overlaps.prediction))
    )
    (first, true_classes), (second, classes) = sides
    expected = oracle.kinds(first, second, true_classes, classes)
    result = kinds_of(overlaps)
    assert names(result.truth) == [kind for _, kind in sorted(expected[0].items())]
    assert names(result.prediction) == [kind for _, kind in sorted(expected[1].items())]


def test_costs_by_hand():
    # IoU 1, 0.75 and 0.5; one missed, one spurious, one of the wrong class.
    truth = [
        ((0, 4), (0, 4), 1),
        ((0, 4), (4, 8), 2),
        ((0, 4), (8, 12), 3),
        ((4, 8), (0, 4), 4),
        ((8, 12), (0, 8), 5),
    ]
    prediction = [((0, 4), (0, 4), 1), ((0, 4), (4, 7), 2), ((4, 8), (0, 4), 3)]
    prediction += [((8, 12), (0, 4), 4), ((8, 12), (4, 8), 5), ((4, 8), (8, 12), 6)]
    overlaps = overlaps_of(blocks(*truth), blocks(*prediction), [1, 1, 1, 2, 1], [1, 1, 1, 1, 1, 1])
    scores = ErrorStatistics.of(overlaps).compute(NAMES)
    every = scores["all"]
    # The halves of the last instance have an IoU of exactly 0.5: one is right, the other a double.
    assert every["double"].predictions == 1
    ap, pq = 3 / 8, 2.25 / (3 + 2 / 2 + 3 / 2)
    assert every["missed"].truth == every["spurious"].predictions == 1
    assert every["missed"].d_ap == pytest.approx(3 / 7 - ap)
    assert every["missed"].d_pq == pytest.approx(2.25 / (3 + 1 / 2 + 3 / 2) - pq)
    assert every["spurious"].d_ap == every["double"].d_ap == pytest.approx(3 / 7 - ap)
    assert every["spurious"].d_pq == pytest.approx(2.25 / (3 + 2 / 2 + 2 / 2) - pq)
    assert every["wrong_class"].d_ap == pytest.approx(4 / 7 - ap)
    assert every["wrong_class"].d_pq == pytest.approx(3.25 / (4 + 1 / 2 + 2 / 2) - pq)
    assert every["split"].d_ap == every["merged"].d_ap == every["bad_outline"].d_pq == 0
    assert scores["micronucleus"]["wrong_class"].d_ap == 1
    assert scores["nucleus"]["wrong_class"].predictions == 1
    assert scores["nucleus"]["wrong_class"].d_ap == pytest.approx(3 / 6 - 3 / 7)


def test_split_merged_and_outlines_become_perfect():
    for name, before, after in (
        ("split in three", 3, "split"),
        ("three in one", 1, "merged"),
        ("a bad outline", 1, "bad_outline"),
    ):
        truth, prediction, _, _ = CASES[name]
        scores = ErrorStatistics.of(overlaps_of(blocks(*truth), blocks(*prediction))).compute(NAMES)["all"][
            after
        ]
        assert scores.predictions == before
        assert (scores.d_ap, scores.d_pq) == (1, 1)


def test_errors_by_size_and_of_several_images():
    truth = blocks(*[((0, 1), (0, 1), 1), ((3, 5), (0, 2), 2), ((6, 9), (0, 3), 3), ((0, 4), (5, 9), 4)])
    prediction = np.where(np.isin(truth, (1, 3)), 0, truth)
    counts = ErrorStatistics.of(overlaps_of(truth, prediction))
    scores = (counts + counts + ErrorStatistics()).compute(NAMES)
    assert [scores[f"q{index}"]["missed"].truth for index in (1, 2, 3, 4)] == [2, 0, 2, 0]
    assert scores["all"]["missed"].d_ap == 1 / 2
    prediction[11, 11], prediction[6:12, 4:10] = 5, 6
    spurious = ErrorStatistics.of(overlaps_of(truth, prediction)).compute(NAMES)
    assert [spurious[f"q{index}"]["spurious"].predictions for index in (1, 2, 3, 4)] == [1, 0, 0, 1]
    assert math.isnan(scores["micronucleus"]["missed"].d_ap)
    assert math.isnan(ErrorStatistics().compute(NAMES)["all"]["split"].d_pq)


def test_a_prediction_of_the_area_of_a_quartile_counts_for_the_smaller_quarter():
    truth, prediction = blocks((*left, 1)), blocks((*left, 1), ((8, 12), (8, 12), 2))
    scores = ErrorStatistics.of(overlaps_of(truth, prediction)).compute(NAMES)
    assert [scores[f"q{index}"]["spurious"].predictions for index in (1, 2, 3, 4)] == [1, 0, 0, 0]


def test_without_any_hit_the_cost_is_all():
    labels = blocks((*left, 1), ((8, 12), (8, 12), 2))
    nothing = np.zeros_like(labels)
    for truth, prediction, kind in ((labels, nothing, "missed"), (nothing, labels, "spurious")):
        scores = ErrorStatistics.of(overlaps_of(truth, prediction)).compute(NAMES)
        assert (scores["all"][kind].d_ap, scores["all"][kind].d_pq) == (1, 1)
        assert scores["all"]["merged"].d_ap == 0
        # Quarters are those of the true instances.
        assert ("q1" in scores) == (kind == "missed")
