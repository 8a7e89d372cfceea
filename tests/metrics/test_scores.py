import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.metrics import published
from segjax.metrics.averages import average
from segjax.metrics.details import DetailOptions
from segjax.metrics.options import InstanceOptions
from segjax.metrics.overlaps import Overlaps
from segjax.metrics.published import InnerCounts
from segjax.metrics.scores import Statistics
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE
from tests.metrics.test_coco import random_image
from tests.metrics.test_instance import random_pair
from tests.oracles import published as oracle

NAMES = ("background", "nucleus", "micronucleus")


def example():
    """Two nuclei and a micronucleus; the prediction takes one nucleus for a micronucleus."""
    labels = np.zeros((8, 8), np.int32)
    labels[0:3, 0:3], labels[4:7, 0:3], labels[4:6, 5:7] = 1, 2, 3
    return (
        Segmentation.from_labels(labels, classes=[1, 1, 2]),
        Segmentation.from_labels(labels, classes=[1, 2, 2]),
    )


def test_scores_by_class_and_regardless_of_it():
    scores = Statistics.of(*example(), NAMES).compute()
    assert scores.iou == {"background": 1, "nucleus": 9 / 18, "micronucleus": 4 / 13}
    assert scores.instances == "nucleus"
    assert scores.ap[0.5] == scores.per_class["nucleus"].ap[0.5] == 1 / 2
    assert scores.per_class["micronucleus"].ap[0.5] == 1 / 2
    assert scores.per_class["micronucleus"].n_pred == 2
    assert scores.all.ap[0.5] == scores.all.pq == 1


def test_the_headline_class_is_that_of_the_top_level_scores():
    scores = Statistics.of(*example(), NAMES, headline="micronucleus").compute()
    assert scores.instances == "micronucleus"
    assert scores.aji == scores.per_class["micronucleus"].aji == 4 / 13


def test_adding_pools_and_empty_is_neutral():
    truth, prediction = example()
    one, other = Statistics.of(truth, prediction, NAMES), Statistics.of(truth, truth, NAMES)
    both = (one + other).compute()
    assert both.per_class["nucleus"].ap[0.5] == 3 / 4
    assert both.iou["nucleus"] == (9 + 18) / (18 + 18)
    assert both.all.n_true == 6
    assert (Statistics.empty(NAMES) + one).compute().as_dict() == one.compute().as_dict()


def test_the_dictionary_has_the_keys_of_the_metrics_file_in_their_order():
    numbers = Statistics.of(*example(), NAMES).compute().as_dict()
    pixel = ["iou", "dice", "mean_iou", "pixel_accuracy", "pixel_precision", "pixel_recall"]
    instance = ["ap", "f1", "precision", "recall", "pq", "rq", "sq", "aji"]
    instance += [
        "mean_true_score",
        "n_true",
        "n_pred",
        "mean_ap",
        "sorted_ap",
        "aji_plus",
        "splits",
        "merges",
    ]
    instance += ["recall_by_size", "size_quartiles", "f1_by_iou", "pq_by_iou"]
    assert list(numbers) == [
        *pixel,
        *instance,
        "instances",
        "per_class",
        "all",
        "options",
        "count",
        "published",
    ]
    assert list(numbers["all"]) == list(numbers["per_class"]["nucleus"]) == instance
    assert list(numbers["ap"]) == ["0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95"]


def test_undefined_scores_are_nan_and_null_in_json():
    nothing = Segmentation.empty((4, 4))
    scores = Statistics.of(nothing, nothing, NAMES).compute()
    assert math.isnan(scores.pq)
    numbers = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    assert numbers["iou"] == {"background": 1, "nucleus": None, "micronucleus": None}
    assert numbers["pq"] is None
    assert numbers["n_true"] == 0
    json.dumps(Statistics.empty(NAMES).compute().as_dict(), allow_nan=False)


def test_names_what_does_not_fit():
    truth, prediction = example()
    with pytest.raises(ValueError, match="instance of class 2, but only 2 names"):
        Statistics.of(truth, prediction, NAMES[:2])
    for name in ("all", "q1"):
        with pytest.raises(InputError, match=f"a class is called '{name}', as a part of the scores: rename"):
            Statistics.empty(("background", name))
    with pytest.raises(ValueError, match="headline class 'background' is none of nucleus, micronucleus"):
        Statistics.empty(NAMES, headline="background")
    with pytest.raises(ValueError, match="class_names"):
        Statistics.empty(("background",))
    with pytest.raises(ValueError, match="do not add up"):
        Statistics.empty(NAMES) + Statistics.empty(NAMES, headline="micronucleus")


def squares(*cells, shape=(12, 12), classes=None):
    """Squares of 3 x 3 pixels in a grid of 4 x 4 pixels; each cell is (row, column, height)."""
    labels = np.zeros(shape, np.int32)
    for index, (row, column, height) in enumerate(cells, start=1):
        labels[4 * row : 4 * row + height, 4 * column : 4 * column + 3] = index
    return Segmentation.from_labels(labels, classes=classes)


def images():
    """Four images of two groups, as (truth, prediction, name, group)."""
    two = squares((0, 0, 3), (1, 1, 3), classes=[1, 2])
    yield two, two, "right", "a"
    yield two, squares((0, 0, 2), (1, 1, 3), classes=[1, 1]), "wrong class", "a"
    yield squares((0, 0, 3)), squares((0, 0, 3), (2, 2, 3), classes=[1, 2]), "spurious", "b"
    yield squares(), squares((2, 2, 3)), "empty truth", "b"


def counted(order=range(4)):
    every = list(images())
    parts = [Statistics.of(*every[i][:2], NAMES, name=every[i][2], group=every[i][3]) for i in order]
    return sum(parts[1:], start=parts[0])


def test_means_over_images_and_groups_by_hand():
    precision = [1, 1 / 2, 1, 0]  # of nuclei, in each image
    pooled, image, group = (
        counted().compute(InstanceOptions(average=average)) for average in ("pooled", "image", "group")
    )
    assert pooled.precision == 3 / 5
    assert image.precision == np.mean(precision)
    assert group.precision == np.mean([(1 + 1 / 2) / 2, (1 + 0) / 2])
    # Two images have no micronucleus, true or predicted, or only in the prediction.
    assert image.per_class["micronucleus"].recall == np.mean([1, 0, 0])
    assert group.per_class["micronucleus"].recall == np.mean([np.mean([1, 0]), 0])
    assert image.n_pred == group.n_pred == pooled.n_pred == 5
    assert image.pixel_accuracy == np.mean([1, 132 / 144, 135 / 144, 135 / 144])
    assert group.as_dict()["options"] == {"strict": False, "empty": "nan", "average": "group"}


def test_means_are_exact():
    assert average([1e16, 1.0, -1e16]) == average([1.0, 1e16, -1e16]) == 1 / 3


def test_published_scores_by_hand():
    scores = counted().compute().as_dict()["published"]
    # Of any class: 2 of 2, 2 of 2 with an IoU of 2/3, 1 of 1 and a spurious one, a spurious one.
    assert scores["stardist"]["panoptic_quality"] == pytest.approx((4 + 2 / 3) / (5 + 2 / 2))
    by_stardist = {"accuracy": 5 / 7, "precision": 5 / 7, "recall": 1, "f1": 5 / 6}
    by_stardist |= dict.fromkeys(("mean_matched_score", "mean_true_score"), (4 + 2 / 3) / 5)
    assert {name: scores["stardist"][name] for name in by_stardist} == pytest.approx(by_stardist)
    assert scores["stardist"]["options"] == {"strict": False, "empty": "zero", "average": "pooled"}
    # An IoU of 2/3 is above four of the ten thresholds.
    assert scores["dsb2018"]["score"] == pytest.approx(np.mean([1, 0.4 + 0.6 / 3, 1 / 2, 0]))
    assert scores["hovernet"]["dq"] == pytest.approx(np.mean([1, 1, 2 / 3, 0]))
    assert scores["hovernet"]["sq"] == pytest.approx(np.mean([1, 5 / 6, 1, 0]))
    assert scores["hovernet"]["aji"] == pytest.approx(np.mean([1, 15 / 18, 9 / 18, 0]))
    assert scores["hovernet"]["options"]["strict"]
    # Where the truth is empty, PanNuke ignores what was predicted.
    assert scores["pannuke"]["bpq"] == pytest.approx(np.mean([np.mean([1, 5 / 6]), 2 / 3]))
    nuclei, micronuclei = [1, 2 / 3 * 2 / 3, 1, math.nan], [1, 0, math.nan, math.nan]
    mpq = np.nanmean([nuclei[:3], micronuclei[:3]], axis=0)
    assert scores["pannuke"]["mpq"] == pytest.approx(np.mean([np.mean(mpq[:2]), mpq[2]]))
    # The challenge leaves out the squares at the edges, which are all but those in the middle.
    assert scores["neurips2022"]["options"] == {"strict": False, "empty": "zero", "average": "image"}
    assert scores["neurips2022"]["f1"] == pytest.approx(np.mean([1, 1, 0, 0]))


def test_strict_scores_need_more_than_the_threshold():
    half = Statistics.of(squares((1, 1, 2)), squares((1, 1, 1)), NAMES).compute()
    of_tools = half.published
    assert half.f1 == of_tools["stardist"]["f1"] == of_tools["neurips2022"]["f1"] == 1
    assert of_tools["hovernet"]["dq"] == of_tools["pannuke"]["bpq"] == of_tools["dsb2018"]["score"] == 0
    assert half.mean_ap == 1 / 10


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("first", "expected"), [(1, 0), (2, 1), (15, 1), (16, 0)])
def test_the_challenge_leaves_out_what_touches_the_two_outer_rows_and_columns(axis, first, expected):
    labels = np.zeros((20, 20), np.int32)
    labels[first : first + 3, 8:11] = 1
    truth = Segmentation.from_labels(np.moveaxis(labels, 0, axis))
    assert InnerCounts.of(truth, truth, Overlaps.of(truth, truth)).matched == expected


def test_large_images_are_scored_in_patches_by_the_challenge():
    # A square of 6 x 6 pixels on the edge of two patches: the part in each patch touches its edge.
    labels = np.zeros((40, 30), np.int32)
    labels[17:23, 3:9], labels[5:11, 10:16], labels[28:31, 23:26] = 1, 2, 3
    truth = Segmentation.from_labels(labels)
    overlaps = Overlaps.of(truth, truth)
    assert InnerCounts.of(truth, truth, overlaps, large=1201, patch=20) == InnerCounts(3, 3, 3)
    assert InnerCounts.of(truth, truth, overlaps, large=1200, patch=20) == InnerCounts(2, 2, 2)


def test_the_challenge_cuts_images_of_25_megapixels_into_patches_of_2000_pixels(monkeypatch):
    corners, tiny = [], Segmentation.empty((4, 4))

    def cut(segmentation, y, x, side):
        corners.append((y, x, side))
        return tiny

    monkeypatch.setattr(published, "_patch", cut)
    for shape in ((5000, 5000), (5000, 4999)):
        image = SimpleNamespace(shape=shape)
        assert InnerCounts.of(image, image, Overlaps.of(tiny, tiny)) == InnerCounts()
    starts = (0, 2000, 4000)
    assert corners[::2] == [(y, x, 2000) for y in starts for x in starts]


def test_scores_of_the_challenge_by_hand():
    expected = {"f1": 2 / 6, "precision": 1 / 4, "recall": 1 / 2}
    assert InnerCounts(matched=1, num_true=2, num_predicted=4).compute() == pytest.approx(expected)
    assert InnerCounts().compute() == dict.fromkeys(expected, 0)


def test_scores_of_parts_merge_to_the_same_bits_in_any_order():
    expected = counted().compute()
    for order in ((3, 1, 0, 2), (2, 3, 1, 0)):
        first, second = counted(order[:1]).compute(), counted(order[1:]).compute()
        assert (first + second).as_dict() == (second + first).as_dict() == expected.as_dict()


def test_an_image_is_counted_once():
    with pytest.raises(ValueError, match="'spurious' is in both scores: score each image once"):
        counted().compute() + counted([2]).compute()
    with pytest.raises(ValueError, match="do not add up"):
        counted([0]).compute() + counted([1]).compute(InstanceOptions(strict=True))


def scored(labels, classes, scores):
    return Segmentation.from_labels(labels, classes=classes, scores=scores)


def test_details_are_in_the_dictionary_if_they_were_counted():
    truth, prediction = example()
    confident = scored(prediction.labels, prediction.classes, [0.9, 0.8, 0.7])
    counts = Statistics.of(truth, confident, NAMES, name="a", details=DetailOptions())
    numbers = json.loads(json.dumps(counts.compute().as_dict(), allow_nan=False))
    assert numbers["errors"]["nucleus"]["wrong_class"]["truth"] == 1
    assert numbers["errors"]["all"]["wrong_class"]["d_ap"] == pytest.approx(1 - 2 / 4)
    assert numbers["surface"]["options"] == {"tolerance": 2.0}
    assert numbers["surface"]["nucleus"]["boundary_precision"] == 1
    assert numbers["coco"]["options"] == {"max_dets": 2000}
    # One of two nuclei, without a wrong one; the second of two micronuclei.
    assert numbers["coco"]["mask"]["nucleus"]["ap"] == pytest.approx(51 / 101)
    assert numbers["coco"]["box"]["micronucleus"]["ap"] == pytest.approx(1 / 2)
    assert numbers["coco"]["mask"]["mean"]["ap"] == pytest.approx((51 / 101 + 1 / 2) / 2)
    assert numbers["calibration"]["all"]["count"][7:] == [1, 1, 1]
    assert numbers["calibration"]["nucleus"]["ece"] == pytest.approx(0.1)
    assert numbers["count"] == {"mean_absolute_error": 0, "bias": 0, "relative_error": 0}


def test_an_ignored_region_changes_no_score():
    truth, prediction = (np.zeros((20, 34), np.int32) for _ in range(2))
    truth[3:9, 3:9], truth[10:16, 4:8] = 1, 2
    prediction[3:8, 3:9], prediction[10:13, 4:8], prediction[13:16, 4:8] = 1, 2, 3
    without = [labels[:, :20].copy() for labels in (truth, prediction)]
    rng = np.random.default_rng(0)
    truth[:, 22:] = rng.integers(0, 30, (20, 12))
    prediction[:, 22:] = rng.integers(0, 30, (20, 12))
    truth[:, 24:], prediction[:, 24:] = truth[:, 24:] * 10, prediction[:, 24:] * 10
    semantic = np.where(np.arange(34) >= 20, IGNORE, truth > 0)
    truth[truth > 3] += 3  # the ids of the region are others, but for some of both
    scores = rng.random(np.unique(prediction).size - 1)
    dicts = []
    names = ("background", "cell")
    for first, second, known in ((truth, prediction, semantic), (*without, None)):
        confidence = scores[: len(np.unique(second)) - 1]
        pair = (
            Segmentation.from_labels(first, semantic=known),
            Segmentation.from_labels(second, scores=confidence),
        )
        dicts.append(Statistics.of(*pair, names, name="a", details=DetailOptions()).compute().as_dict())
    assert dicts[0] == dicts[1]
    assert dicts[0]["errors"]["all"]["double"]["predictions"] == 1


def test_details_need_counts_and_coco_needs_scores():
    truth, prediction = example()
    with_details = Statistics.of(truth, prediction, NAMES, details=DetailOptions())
    nothing = Statistics.of(truth, Segmentation.empty(truth.shape), NAMES, details=DetailOptions())
    assert "coco" not in (with_details + nothing).compute().as_dict()
    assert nothing.compute().as_dict()["coco"]["mask"]["nucleus"]["ap"] == 0
    # The scores of one image may all be 1.
    scores = np.linspace(0.5, 1, prediction.num_instances)
    scored = Segmentation.from_labels(prediction.labels, classes=prediction.classes, scores=scores)
    scored = Statistics.of(truth, scored, NAMES, details=DetailOptions())
    assert "calibration" in (with_details + scored).compute().as_dict()
    assert "surface" not in (with_details + Statistics.of(truth, prediction, NAMES)).compute().as_dict()


def random_classes(labels, rng):
    ids = np.unique(labels[labels > 0]).tolist()
    return dict(zip(ids, rng.integers(1, 3, len(ids)).tolist(), strict=True))


def test_published_scores_agree_with_dense_tables():
    rng = np.random.default_rng(0)
    images, groups, parts = [], [], []
    for seed in range(12):
        truth, prediction = random_pair(seed, shape=(24, 28), count=6)
        images.append((truth, prediction, random_classes(truth, rng), random_classes(prediction, rng)))
        groups.append("abc"[seed % 3])
        pair = (
            Segmentation.from_labels(labels, classes=list(classes.values()))
            for labels, classes in zip(images[-1][:2], images[-1][2:], strict=True)
        )
        parts.append(Statistics.of(*pair, NAMES, group=groups[-1]))
    scores = sum(parts[1:], start=parts[0]).compute().published
    qualities = zip(*(oracle.quality(*image[:2]) for image in images), strict=True)
    expected = dict(zip(("dq", "sq", "pq"), map(oracle.mean, qualities), strict=True))
    assert {name: scores["hovernet"][name] for name in expected} == pytest.approx(expected, rel=1e-12)
    tissues = scores["pannuke"]["bpq"], scores["pannuke"]["mpq"]
    assert tissues == pytest.approx(oracle.pannuke(images, groups, (1, 2)), rel=1e-12)
    challenge = oracle.mean([oracle.neurips_f1(*image[:2]) for image in images])
    assert scores["neurips2022"]["f1"] == pytest.approx(challenge, rel=1e-12)


def test_details_merge_to_the_same_bits_in_any_order():
    parts = [
        Statistics.of(*random_image(seed), ("background", "cell"), name=f"{seed}", details=DetailOptions())
        for seed in range(4)
    ]
    expected = sum(parts[1:], start=parts[0]).compute().as_dict()
    assert expected["coco"]["mask"]["cell"]["ap"] > 0
    for order in ((2, 0, 3, 1), (3, 2, 1, 0)):
        first, *others = (parts[index] for index in order)
        assert sum(others, start=first).compute().as_dict() == expected
