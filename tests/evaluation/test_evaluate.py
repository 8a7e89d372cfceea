import doctest
import gc
import weakref

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.evaluation import evaluate as module
from segjax.evaluation.evaluate import evaluate, evaluate_labels
from segjax.metrics.options import InstanceOptions
from segjax.metrics.scores import Statistics
from segjax.segmentation import Segmentation
from tests.metrics.test_scores import NAMES, example


def test_the_example_of_the_docstring_holds():
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


def test_label_images_and_segmentations_score_the_same():
    truth, prediction = example()
    scores = evaluate_labels(truth, prediction, class_names=NAMES, details=None)
    assert scores.as_dict() == Statistics.of(truth, prediction, NAMES).compute().as_dict()
    assert evaluate_labels(truth, prediction).iou["class 2"] == scores.iou["micronucleus"]
    one_class = evaluate_labels(truth.labels.astype(np.uint16), 3 * prediction.labels)
    assert list(one_class.iou) == ["background", "class 1"]
    assert one_class.pq == scores.all.pq == 1


every_id = np.arange(1, 2**16, dtype=np.uint16).reshape(255, 257)
twice = np.zeros((256, 257), np.uint16)
twice[:255] = every_id
twice[255, 200:202] = 0, 1  # 65,536 and 65,537
byte = np.zeros((20, 20), np.uint8)
byte.flat[:258] = np.arange(1, 259) % 256

INVALID = {
    "other sizes": (
        np.zeros((3, 4), int),
        "truth is 4 x 3 pixels and the prediction 3 x 4: they differ in shape",
    ),
    "floats": (np.zeros((4, 3)), "prediction is float64 .* 2-D array of integers"),
    "a mask": (np.zeros((4, 3), bool), "prediction is bool .* 2-D array of integers"),
    "colours": (np.zeros((4, 3, 3), int), r"shape \(4, 3, 3\), but a label image is a 2-D array"),
    "negative ids": (np.full((4, 3), -2), "prediction has the id -2: 0 is background"),
    "65,537 instances in uint16": (twice, "prediction uses every id of uint16, and id 1 twice"),
    "257 instances in uint8": (byte, "prediction uses every id of uint8, and id 1 twice"),
}


@pytest.mark.parametrize("name", INVALID)
def test_says_in_a_sentence_what_is_no_label_image(name):
    prediction, message = INVALID[name]
    with pytest.raises(InputError, match=message):
        evaluate_labels(np.zeros((4, 3), int), prediction)


def test_every_id_of_a_type_may_be_used_once():
    assert evaluate_labels(every_id, every_id).n_pred == 2**16 - 1


def test_scores_of_single_images_add_up():
    truth, prediction = example()
    one, other = evaluate_labels(truth, prediction), evaluate_labels(truth, truth)
    assert (one + other).all.n_true == 6
    assert (one + other).recall == (other + one).recall == 3 / 4
    strict = evaluate_labels(truth, truth, options=InstanceOptions(strict=True, empty="zero"))
    assert strict.as_dict()["options"] == {"strict": True, "empty": "zero", "average": "pooled"}


class Records(list):
    class_names = NAMES


class Record:
    def __init__(self, name, truth):
        self.name, self.group, self.truth, self.image = name, name, truth, truth


def test_a_split_is_scored_image_by_image_and_pooled():
    truth, _ = example()
    records = Records([Record("right", truth), Record("wrong", Segmentation.empty(truth.shape))])
    evaluation = evaluate(lambda image: truth, records, headline="micronucleus")
    assert list(evaluation.per_image) == ["right", "wrong"]
    assert evaluation.per_image["right"].pq == 1
    assert (evaluation.scores.n_true, evaluation.scores.n_pred) == (1, 2)
    assert evaluation.scores.instances == "micronucleus"
    assert evaluation.predict(records[1]) is truth
    assert evaluation.seconds > 0


def test_images_of_equal_names_are_scored_each():
    truth, _ = example()
    wrong = Segmentation.empty(truth.shape)
    records = Records([Record("a", one) for one in (truth, wrong, truth)] + [Record("a (2)", wrong)])
    evaluation = evaluate(lambda image: truth, records)
    assert list(evaluation.per_image) == ["a", "a (3)", "a (4)", "a (2)"]
    assert [scores.n_true for scores in evaluation.per_image.values()] == [2, 0, 2, 0]


def test_the_images_may_be_computed_in_any_order():
    truth, prediction = example()
    records = Records([Record("right", truth), Record("wrong", prediction), Record("again", truth)])

    def backwards(function, count):
        return [function(index) for index in reversed(range(count))][::-1]

    first = evaluate(lambda image: prediction, records)
    second = evaluate(lambda image: prediction, records, spread=backwards)
    assert second.scores.as_dict() == first.scores.as_dict()
    assert list(second.per_image) == ["right", "wrong", "again"]


def test_predictions_are_not_kept():
    truth, _ = example()
    made = []

    def method(image):
        prediction = Segmentation.empty(image.shape)
        made.append(weakref.ref(prediction))
        return prediction

    evaluation = evaluate(method, Records([Record("a", truth), Record("b", truth)]))
    gc.collect()
    assert list(evaluation.per_image) == ["a", "b"]
    assert [one() for one in made] == [None, None]
