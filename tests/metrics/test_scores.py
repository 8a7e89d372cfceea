import json

import numpy as np
import pytest

from segjax.metrics import InstanceStatistics, Scores
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


def test_numbers_by_class_and_regardless_of_it():
    numbers = Scores.of(*example(), NAMES).compute()
    assert numbers["iou"] == {"background": 1, "nucleus": 9 / 18, "micronucleus": 4 / 13}
    assert numbers["instances"] == "nucleus"
    assert numbers["ap"]["0.5"] == numbers["per_class"]["nucleus"]["ap"]["0.5"] == 1 / 2
    assert numbers["per_class"]["micronucleus"]["ap"]["0.5"] == 1 / 2
    assert numbers["per_class"]["micronucleus"]["n_pred"] == 2
    assert numbers["all"]["ap"]["0.5"] == numbers["all"]["pq"] == 1
    assert set(InstanceStatistics.empty().compute()) < set(numbers)


def test_the_headline_is_of_the_class_one_asks_for():
    numbers = Scores.of(*example(), NAMES, headline="micronucleus").compute()
    assert numbers["instances"] == "micronucleus"
    assert numbers["aji"] == numbers["per_class"]["micronucleus"]["aji"] == 4 / 13


def test_adding_pools_and_empty_is_neutral():
    truth, prediction = example()
    one, other = Scores.of(truth, prediction, NAMES), Scores.of(truth, truth, NAMES)
    both = one + other
    assert both.compute()["per_class"]["nucleus"]["ap"]["0.5"] == 3 / 4
    assert both.compute()["iou"]["nucleus"] == (9 + 18) / (18 + 18)
    assert both.compute()["all"]["n_true"] == 6
    assert (Scores.empty(NAMES) + one).compute() == one.compute()


def test_what_cannot_be_judged_is_null_in_json():
    nothing = Segmentation.empty((4, 4))
    numbers = json.loads(json.dumps(Scores.of(nothing, nothing, NAMES).compute(), allow_nan=False))
    assert numbers["iou"] == {"background": 1, "nucleus": None, "micronucleus": None}
    assert numbers["pq"] is None
    assert numbers["n_true"] == 0
    json.dumps(Scores.empty(NAMES).compute(), allow_nan=False)


def test_says_what_does_not_fit():
    truth, prediction = example()
    with pytest.raises(ValueError, match="instance of class 2, but only 2 names"):
        Scores.of(truth, prediction, NAMES[:2])
    with pytest.raises(ValueError, match="headline class 'background' is none of nucleus, micronucleus"):
        Scores.empty(NAMES, headline="background")
    with pytest.raises(ValueError, match="class_names"):
        Scores.empty(("background",))
    with pytest.raises(ValueError, match="do not add up"):
        Scores.empty(NAMES) + Scores.empty(NAMES, headline="micronucleus")
