import numpy as np
import pytest

from segjax.metrics.details import DetailOptions
from segjax.metrics.detections import DetectionCounts, Detections, _overlaps, detection_scores
from segjax.metrics.errors import ErrorStatistics
from segjax.metrics.scores import Statistics
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE
from tests.metrics.test_errors import names

NAMES = ("background", "nucleus", "micronucleus")
# Four true boxes of 10 x 10 pixels, two of which touch.
TRUE = [(0, 0, 10, 10), (20, 0, 30, 10), (30, 0, 40, 10), (0, 20, 10, 30)]


def truth(ignored=()):
    labels = np.zeros((40, 60), np.int32)
    for index, (x0, y0, x1, y1) in enumerate(TRUE, start=1):
        labels[y0:y1, x0:x1] = index
    semantic = (labels > 0).astype(np.int32)
    for window in ignored:
        semantic[window] = IGNORE
    return Segmentation.from_labels(labels, semantic=semantic)


def detections(*rows):
    """Rows of a box, a class and a score."""
    boxes = np.array([row[0] for row in rows], float).reshape(-1, 4)
    return Detections(
        boxes, np.array([row[1] for row in rows], int), np.array([row[2] for row in rows], float)
    )


def counted(*rows, ignored=()):
    return DetectionCounts.of(truth(ignored), detections(*rows), NAMES)


def test_kinds_of_boxes_by_hand():
    counts = counted(
        (TRUE[0], 1, 0.9),
        ((1, 1, 9, 9), 1, 0.8),  # a second box on the first object
        ((20, 0, 40, 10), 1, 0.7),  # both that touch: IoU 0.5 with each
        ((0.0, 26.0, 10.0, 36.0), 1, 0.6),  # 40 of 160
        ((50, 30, 58, 38), 2, 0.5),
    )
    assert names(counts.errors.truth[0]) == ["correct", "correct", "merged", "bad_outline"]
    assert names(counts.errors.prediction[0]) == ["correct", "double", "correct", "bad_outline", "spurious"]
    scores = detection_scores([counts], NAMES)["errors"]["all"]
    # TP 2, FN 2, FP 3; without the double one FP less.
    assert scores["double"].d_ap == pytest.approx(2 / 6 - 2 / 7)
    assert scores["spurious"].predictions == 1


def test_boxes_that_overlap_have_partners_of_their_own():
    # Two true boxes of 100 pixels with an IoU of 70 / 130, detected exactly.
    boxes = [(0, 0, 10, 10), (3, 0, 13, 10)]
    true = detections(*((box, 1, 1.0) for box in boxes))
    statistics = ErrorStatistics.of(_overlaps(true, detections(*((box, 1, 0.9) for box in boxes))))
    assert names(statistics.truth[0]) == names(statistics.prediction[0]) == ["correct", "correct"]
    # The box of the right class is the partner, though the other one fits better.
    both = detections(((0, 0, 10, 10), 2, 0.9), ((0, 0, 9, 10), 1, 0.8))
    statistics = ErrorStatistics.of(_overlaps(true[:1], both))
    assert names(statistics.truth[0]) == ["correct"]
    assert names(statistics.prediction[0]) == ["double", "correct"]


def test_the_class_of_a_box_counts():
    counts = counted((TRUE[0], 2, 0.9))
    assert names(counts.errors.truth[0])[0] == "wrong_class"
    assert detection_scores([counts], NAMES)["coco"]["box"]["nucleus"].ap == 0


def test_boxes_of_rectangles_score_as_their_label_image_does():
    boxes = [(TRUE[0], 1, 0.9), ((21, 0, 30, 10), 1, 0.6), ((44, 20, 50, 30), 1, 0.7)]
    labels = np.zeros((40, 60), np.int32)
    for index, ((x0, y0, x1, y1), _, _) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = index
    prediction = Segmentation.from_labels(labels, scores=[0.9, 0.6, 0.7])
    details = Statistics.of(truth(), prediction, NAMES, details=DetailOptions()).compute().details
    result = detection_scores([counted(*boxes)], NAMES)
    assert result["errors"]["all"] == details["errors"]["all"]
    of_boxes, expected = (vars(one["coco"]["box"]["nucleus"]) for one in (result, details))
    assert of_boxes == pytest.approx(expected, nan_ok=True)
    assert 0 < result["coco"]["box"]["nucleus"].ap < 1


def test_ignored_regions_count_nowhere():
    region = np.s_[0:12, 18:45]
    counts = counted(
        (TRUE[0], 1, 0.9), ((20, 0, 29, 10), 1, 0.8), ((40, 0, 49, 10), 1, 0.5), ignored=[region]
    )
    assert names(counts.errors.truth[0]) == ["correct", "missed"]
    assert names(counts.errors.prediction[0]) == ["correct"]
    # Half of this box is in the region, which is not more than half.
    assert len(counted(((13, 0, 23, 10), 1, 0.5), ignored=[region]).errors.prediction[0]) == 1
    assert len(counted(((14, 0, 24, 10), 1, 0.5), ignored=[region]).errors.prediction[0]) == 0


def test_images_without_boxes_and_no_image():
    assert detection_scores([], NAMES) == {}
    scores = detection_scores([counted()], NAMES)
    assert scores["errors"]["all"]["missed"].truth == 4
    assert scores["coco"]["box"]["nucleus"].ap == 0


def test_ignored_pixels_beside_a_box_do_not_hide_it():
    # Around a box of 10 x 10 pixels away from the edges, on one side each, and half of the box itself.
    box = np.s_[20:30], np.s_[10:20]
    beside = [np.s_[:20, :], np.s_[30:, :], np.s_[:, :10], np.s_[:, 20:], np.s_[20:25, 10:20]]
    for window in beside:
        counts = counted(((10, 20, 20, 30), 1, 0.9), ignored=[window])
        assert len(counts.errors.prediction[0]) == 1
    assert len(counted(((10, 20, 20, 30), 1, 0.9), ignored=[box]).errors.prediction[0]) == 0


def test_the_size_of_an_object_is_that_of_its_mask():
    y, x = np.mgrid[:60, :60]
    disc = Segmentation.from_labels(((y - 30) ** 2 + (x - 30) ** 2 <= 16**2).astype(np.int32))
    box = detections((disc.boxes[0], 1, 0.9))
    result = detection_scores([DetectionCounts.of(disc, box, NAMES)], NAMES)["coco"]["box"]["nucleus"]
    # 797 pixels are small, the 1,089 of the box would not be.
    assert disc.labels.sum() == 797
    assert result.ap_small == pytest.approx(1)
    assert np.isnan(result.ap_medium)
