import doctest

import numpy as np
import pytest

from segjax.evaluation import evaluate as module
from segjax.evaluation.evaluate import evaluate, evaluate_labels
from segjax.metrics.scores import Statistics
from segjax.segmentation import Segmentation
from tests.metrics.test_scores import NAMES, example


def test_the_example_of_the_docstring_holds():
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


def test_label_images_and_segmentations_score_the_same():
    truth, prediction = example()
    scores = evaluate_labels(truth, prediction, class_names=NAMES)
    assert scores.as_dict() == Statistics.of(truth, prediction, NAMES).compute().as_dict()
    assert evaluate_labels(truth, prediction).iou["class 2"] == scores.iou["micronucleus"]
    one_class = evaluate_labels(truth.labels.astype(np.uint16), 3 * prediction.labels)
    assert list(one_class.iou) == ["background", "class 1"]
    assert one_class.pq == scores.all.pq == 1


def test_images_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        evaluate_labels(np.zeros((3, 4), int), np.zeros((4, 3), int))
    with pytest.raises(ValueError, match="2-D array of integers"):
        evaluate_labels(np.zeros((3, 4)), np.zeros((3, 4), int))


class Records(list):
    class_names = NAMES


class Record:
    def __init__(self, name, truth):
        self.name, self.truth, self.image = name, truth, truth


@pytest.mark.parametrize("keep", [True, False])
def test_a_split_is_scored_image_by_image_and_pooled(keep):
    truth, _ = example()
    records = Records([Record("right", truth), Record("wrong", Segmentation.empty(truth.shape))])
    evaluation = evaluate(lambda image: truth, records, headline="micronucleus", keep_predictions=keep)
    assert list(evaluation.per_image) == ["right", "wrong"]
    assert evaluation.per_image["right"].pq == 1
    assert (evaluation.scores.n_true, evaluation.scores.n_pred) == (1, 2)
    assert evaluation.scores.instances == "micronucleus"
    assert list(evaluation.predictions) == (["right", "wrong"] if keep else [])
    assert evaluation.seconds > 0
