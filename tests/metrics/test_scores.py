import json
import math

import numpy as np
import pytest

from segjax.metrics.scores import Statistics
from segjax.segmentation import Segmentation

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
    pixel = ["iou", "dice", "mean_iou", "pixel_accuracy"]
    instance = ["ap", "f1", "precision", "recall", "pq", "rq", "sq", "aji"]
    instance += ["mean_true_score", "n_true", "n_pred"]
    assert list(numbers) == [*pixel, *instance, "instances", "per_class", "all"]
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
    with pytest.raises(ValueError, match="headline class 'background' is none of nucleus, micronucleus"):
        Statistics.empty(NAMES, headline="background")
    with pytest.raises(ValueError, match="class_names"):
        Statistics.empty(("background",))
    with pytest.raises(ValueError, match="do not add up"):
        Statistics.empty(NAMES) + Statistics.empty(NAMES, headline="micronucleus")
