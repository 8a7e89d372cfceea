import math

import numpy as np
import pytest

from segjax.metrics import pixel
from segjax.metrics.pixel import PixelStatistics
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE
from tests.oracles import pixel as oracle

NAN = math.nan
NAMES = ("background", "nucleus", "micronucleus")


def of_classes(semantic) -> Segmentation:
    semantic = np.asarray(semantic)
    return Segmentation.from_labels(np.zeros(semantic.shape, np.int32), semantic=semantic)


def random_pair(seed: int):
    rng = np.random.default_rng(seed)
    truth = rng.integers(IGNORE, 3, (11, 13))
    return truth, np.where(
        rng.random(truth.shape) < 0.6, np.maximum(truth, 0), rng.integers(0, 3, truth.shape)
    )


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_one_pixel_at_a_time(seed):
    truth, prediction = random_pair(seed)
    statistics = PixelStatistics.of(of_classes(truth), of_classes(prediction), 3)
    expected = oracle.confusion(truth, prediction, 3)
    np.testing.assert_array_equal(statistics.confusion, expected)
    assert statistics.confusion.dtype == np.int64
    scores = statistics.compute(NAMES)
    for index, name in enumerate(NAMES):
        iou, dice = oracle.iou_and_dice(expected, index)
        np.testing.assert_allclose([scores.iou[name], scores.dice[name]], [iou, dice], rtol=1e-12)
        rates = oracle.precision_and_recall(expected, index)
        np.testing.assert_allclose(
            [scores.pixel_precision[name], scores.pixel_recall[name]], rates, rtol=1e-12
        )


def test_large_images_are_counted_in_blocks(monkeypatch):
    truth, prediction = (of_classes(classes) for classes in random_pair(0))
    expected = PixelStatistics.of(truth, prediction, 3).confusion
    monkeypatch.setattr(pixel, "BLOCK", 7)
    np.testing.assert_array_equal(PixelStatistics.of(truth, prediction, 3).confusion, expected)


def test_a_case_by_hand():
    truth = of_classes([[0, 0, 1, 1], [0, 2, 1, IGNORE]])
    prediction = of_classes(
        [[0, 1, 1, 1], [0, 0, 0, 2]]
    )  # what is said of the ignored pixel is nobody's loss
    scores = PixelStatistics.of(truth, prediction, 3).compute(NAMES)
    assert scores.iou == {"background": 2 / 5, "nucleus": 2 / 4, "micronucleus": 0}
    assert scores.dice == {"background": 4 / 7, "nucleus": 4 / 6, "micronucleus": 0}
    assert scores.pixel_accuracy == 4 / 7
    assert scores.pixel_precision == {
        "background": 2 / 4,
        "nucleus": 2 / 3,
        "micronucleus": pytest.approx(NAN, nan_ok=True),
    }
    assert scores.pixel_recall == {"background": 2 / 3, "nucleus": 2 / 3, "micronucleus": 0}
    assert scores.mean_iou == pytest.approx((2 / 5 + 2 / 4 + 0) / 3)


def test_a_class_in_neither_has_no_score_and_leaves_the_mean():
    nothing = of_classes(np.zeros((3, 3), int))
    scores = PixelStatistics.of(nothing, nothing, 3).compute(NAMES)
    assert scores.iou["background"] == scores.mean_iou == scores.pixel_accuracy == 1
    assert math.isnan(scores.iou["nucleus"])
    assert math.isnan(scores.dice["micronucleus"])


def test_a_class_that_is_only_predicted_has_the_iou_0_and_counts_in_the_mean():
    truth, prediction = of_classes([[0, 0, 1, 1]]), of_classes([[0, 0, 1, 2]])
    scores = PixelStatistics.of(truth, prediction, 3).compute(NAMES)
    assert scores.iou == {"background": 1, "nucleus": 0.5, "micronucleus": 0}
    assert scores.mean_iou == 0.5


def test_without_a_judged_pixel_there_is_no_score():
    ignored = of_classes(np.full((3, 3), IGNORE))
    scores = PixelStatistics.of(ignored, of_classes(np.zeros((3, 3), int)), 3).compute(NAMES)
    assert math.isnan(scores.mean_iou)
    assert math.isnan(scores.pixel_accuracy)


def test_adding_is_pooling_the_images():
    pairs = [random_pair(seed) for seed in range(3)]
    parts = [PixelStatistics.of(of_classes(t), of_classes(p), 3) for t, p in pairs]
    joined = PixelStatistics.of(*(of_classes(np.concatenate(maps)) for maps in zip(*pairs, strict=True)), 3)
    pooled = sum(parts, start=PixelStatistics.empty(3))
    np.testing.assert_array_equal(pooled.confusion, joined.confusion)


def test_says_what_does_not_fit():
    small, wide = of_classes(np.zeros((2, 2), int)), of_classes(np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="differ in shape"):
        PixelStatistics.of(small, wide, 3)
    with pytest.raises(ValueError, match="prediction holds classes 3"):
        PixelStatistics.of(small, of_classes(np.full((2, 2), 3)), 3)
    with pytest.raises(ValueError, match="prediction holds classes -1"):
        PixelStatistics.of(small, of_classes(np.full((2, 2), IGNORE)), 3)
    with pytest.raises(ValueError, match="broadcast"):
        PixelStatistics.empty(2) + PixelStatistics.empty(3)
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        PixelStatistics.empty(3).compute(NAMES[:2])


@pytest.mark.peers
def test_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="the peers extra is not installed")
    truth, prediction = random_pair(0)
    judged = truth != IGNORE
    expected = metrics.confusion_matrix(truth[judged], prediction[judged], labels=range(3))
    statistics = PixelStatistics.of(of_classes(truth), of_classes(prediction), 3)
    np.testing.assert_array_equal(statistics.confusion, expected)
