import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segjax.metrics.coco import CocoOptions, CocoStatistics, Pairs, box_pairs
from segjax.metrics.overlaps import Overlaps
from segjax.segmentation import Segmentation


def random_image(seed, size=128, count=14):
    """Ellipses of many sizes as truth, and the same moved, missing and invented, with coarse scores."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    planes = np.zeros((2, size, size), np.int32)
    for index in range(1, count + 1):
        centre, radii = rng.uniform(0, size, 2), rng.uniform(2, 40, 2) ** rng.uniform(0.6, 1.2)
        for plane, shift in zip(planes, (0, rng.normal(0, 1.5, 2)), strict=True):
            if rng.random() < 0.85:
                inside = (((np.stack([y, x], -1) - centre - shift) / radii) ** 2).sum(-1) < 1
                plane[inside] = index
    truth = Segmentation.from_labels(planes[0])
    prediction = Segmentation.from_labels(planes[1])
    scores = np.round(rng.random(prediction.num_instances), 1).astype(np.float32)  # with ties
    return truth, Segmentation.from_labels(prediction.labels, scores=scores)


def statistics(truth, prediction, kind, *, name="", options=CocoOptions()):
    overlaps = Overlaps.of(truth, prediction)
    pairs, areas = Pairs(overlaps.rows, overlaps.columns, overlaps.iou), overlaps.prediction.areas
    if kind == "bbox":
        pairs = box_pairs(truth.boxes, prediction.boxes)
        areas = np.prod(prediction.boxes[:, 2:] - prediction.boxes[:, :2], axis=1)
    scores = overlaps.prediction.scores
    return CocoStatistics.of(pairs, overlaps.truth.areas, areas, scores, name=name, options=options)


@pytest.mark.parametrize("longest", [3, 6, 40])
def test_box_pairs_are_those_of_all_boxes_with_all(longest):
    rng = np.random.default_rng(longest)

    def draw(count):
        corners = rng.integers(0, 30, (count, 2))
        return np.concatenate([corners, corners + rng.integers(1, longest, (count, 2))], axis=1)

    true, boxes = draw(300), draw(400)
    boxes[0], true[0] = (5, 5, 7, 6), (6, 5, 7, 6)  # an IoU of exactly 0.5
    low = np.maximum(true[:, None, :2], boxes[:, :2])
    common = np.maximum(np.minimum(true[:, None, 2:], boxes[:, 2:]) - low, 0).prod(-1)
    areas = [np.prod(side[:, 2:] - side[:, :2], axis=1) for side in (true, boxes)]
    iou = common / (areas[0][:, None] + areas[1] - common)
    expected = np.nonzero(iou >= 0.5)
    pairs = box_pairs(true, boxes)
    np.testing.assert_array_equal(np.stack(pairs[:2]), np.stack(expected))
    np.testing.assert_array_equal(pairs.iou, iou[expected])
    assert len(pairs.iou) > 30
    assert 0.5 in pairs.iou


def test_box_pairs_of_no_boxes():
    some, none = np.array([[0, 0, 2, 2]]), np.zeros((0, 4))
    for true, boxes in ((some, none), (none, some), (none, none)):
        assert [len(values) for values in box_pairs(true, boxes)] == [0, 0, 0]


def annotations(segmentation, image, kind, first=1):
    for index, (x0, y0, x1, y1) in enumerate(segmentation.boxes.tolist()):
        mask = np.asfortranarray(segmentation.labels == index + 1).astype(np.uint8)
        entry = {"image_id": image, "category_id": 1, "iscrowd": 0, "id": first + index}
        entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(mask.sum())}
        if kind == "segm":
            entry["segmentation"] = coco_mask.encode(mask)
        yield {**entry, "score": float(segmentation.scores[index])}


def pycocotools(images, kind, max_dets):
    """What COCOeval says, with `max_dets` for all summaries."""
    truth, results = COCO(), []
    sizes = [dict(zip(("height", "width"), true.shape, strict=True)) for true, _ in images]
    truth.dataset = {"categories": [{"id": 1}], "annotations": []}
    truth.dataset["images"] = [{"id": index, **size} for index, size in enumerate(sizes)]
    for index, (true, predicted) in enumerate(images):
        known = truth.dataset["annotations"]
        known.extend(annotations(true, index, kind, len(known) + 1))
        for entry in annotations(predicted, index, kind):
            results.append({key: entry[key] for key in entry if key in ("image_id", "category_id", "score")})
            field = "bbox" if kind == "bbox" else "segmentation"
            results[-1][field] = entry[field]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.params.maxDets = [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"][:, :, 0, :, 0], evaluation.eval["recall"][:, 0, 0, 0]

    def mean(values):
        return values[values > -1].mean() if (values > -1).any() else math.nan

    areas = [mean(precision[..., index]) for index in range(4)]
    return [areas[0], mean(precision[0, :, 0]), mean(precision[5, :, 0]), *areas[1:], mean(recall)]


@pytest.mark.parametrize("max_dets", [3, 100])
@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_pycocotools(seed, kind, max_dets):
    images = [random_image(10 * seed + index) for index in range(6)]
    options = CocoOptions(max_dets=max_dets)
    counts = [
        statistics(*pair, kind, name=f"image {index}", options=options) for index, pair in enumerate(images)
    ]
    expected = pycocotools(images, kind, max_dets)
    scores = sum(counts[1:], start=counts[0]).compute()
    assert list(vars(scores).values()) == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)
    assert repr(sum(counts[:-1][::-1], start=counts[-1]).compute()) == repr(scores)


def test_more_than_a_hundred_perfect_cells_are_perfect():
    labels = np.kron(np.arange(1, 226).reshape(15, 15), np.ones((4, 4), int))
    truth = Segmentation.from_labels(labels)
    assert statistics(truth, truth, "segm").compute().ap == 1
    hundred = statistics(truth, truth, "segm", options=CocoOptions(max_dets=100)).compute()
    assert hundred.ap == pytest.approx(45 / 101)  # what pycocotools says unless asked for more
    assert hundred.ar == pytest.approx(100 / 225)


def test_a_case_by_hand():
    # Two true boxes; the best score is spurious, the second right, the third a double of the second.
    pairs = Pairs(np.array([0, 0]), np.array([1, 2]), np.array([0.8, 0.7]))
    areas = np.array([2000.0, 2000.0])
    counts = CocoStatistics.of(pairs, areas, np.full(3, 2000.0), np.array([0.9, 0.8, 0.7]))
    scores = counts.compute()
    # Precision 1/2 up to recall 1/2, which are 51 of 101 levels, at the thresholds up to 0.8.
    assert scores.ap50 == scores.ap75 == pytest.approx(51 / 101 / 2)
    assert scores.ap == scores.ap_medium == pytest.approx(0.7 * 51 / 101 / 2)
    assert math.isnan(scores.ap_small)
    assert scores.ar == pytest.approx(0.7 / 2)
    values, correct = counts.correct()
    assert values.tolist() == [0.9, 0.8, 0.7]
    assert correct.tolist() == [False, True, False]


def test_predictions_are_correct_from_an_overlap_of_a_half():
    pairs = Pairs(np.array([0, 1]), np.array([0, 1]), np.array([0.5, 0.49]))
    counts = CocoStatistics.of(pairs, np.full(2, 9.0), np.full(2, 9.0), np.array([0.9, 0.8]))
    assert counts.correct()[1].tolist() == [True, False]


def test_of_equal_overlaps_the_last_is_taken_as_in_coco():
    # So the first true instance is left to the second prediction.
    pairs = Pairs(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.6, 0.6, 0.6]))
    counts = CocoStatistics.of(pairs, np.full(2, 9.0), np.full(2, 9.0), np.array([0.9, 0.8]))
    assert counts.correct()[1].tolist() == [True, True]


def test_true_instances_of_the_range_come_before_those_that_overlap_more():
    pairs = Pairs(np.array([0, 1]), np.array([0, 0]), np.array([0.62, 0.9]))
    counts = CocoStatistics.of(pairs, np.array([2000.0, 500.0]), np.array([2000.0]), np.array([0.9]))
    scores = counts.compute()
    # Among medium instances the small one is taken where the other does not pass, and is ignored there.
    assert scores.ap_medium == pytest.approx(3 / 10)
    assert scores.ap_small == pytest.approx(9 / 10)
    assert scores.ap == pytest.approx(9 / 10 * 51 / 101)


def test_without_truth_there_is_no_score():
    nothing = Segmentation.empty((128, 128))
    truth, prediction = random_image(0)
    assert math.isnan(statistics(nothing, prediction, "segm").compute().ap)
    assert statistics(truth, nothing, "bbox").compute().ap == 0
    assert math.isnan(CocoStatistics.empty().compute().ap)


def test_the_true_instance_of_the_highest_overlap_is_taken():
    # So the second true instance is left to the second prediction.
    pairs = Pairs(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.9, 0.6, 0.6]))
    counts = CocoStatistics.of(pairs, np.full(2, 9.0), np.full(2, 9.0), np.array([0.9, 0.8]))
    assert counts.correct()[1].tolist() == [True, True]


@pytest.mark.parametrize(("area", "names"), [(32**2, ["small", "medium"]), (96**2, ["medium", "large"])])
def test_an_area_between_two_ranges_is_in_both(area, names):
    one = Pairs(np.array([0]), np.array([0]), np.array([1.0]))
    counts = CocoStatistics.of(one, np.full(1, area), np.full(1, area), np.array([0.9]))
    scores = vars(counts.compute())
    assert [name for name in ("small", "medium", "large") if scores[f"ap_{name}"] > 0.99] == names
