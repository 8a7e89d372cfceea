import doctest
import json
import math

import numpy as np
import pytest

from segjax.evaluation import uncertainty as module
from segjax.evaluation.statistics import compare, interval
from segjax.evaluation.uncertainty import Uncertainty
from segjax.metrics.scores import Scores, Statistics
from segjax.segmentation import Segmentation

NAMES = ("background", "cell")


def strip(count: int, right: int) -> tuple[Segmentation, Segmentation]:
    """An image with `count` cells, of which the prediction has the first `right` ones."""
    labels = np.zeros((2, 2 * count), np.int32)
    labels[0, ::2] = np.arange(1, count + 1)
    return Segmentation.from_labels(labels), Segmentation.from_labels(np.where(labels <= right, labels, 0))


def scored(rights, groups=()) -> Scores:
    total = Statistics.empty(NAMES)
    for index, right in enumerate(rights):
        group = groups[index] if groups else ""
        total += Statistics.of(*strip(10, right), NAMES, name=f"image {index}", group=group)
    return total.compute()


def test_the_example_of_the_docstring_holds():
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


def test_estimates_are_the_pooled_scores_with_the_interval_of_the_images():
    rights = [2, 4, 9, 5, 7, 3]
    scores = scored(rights)
    result = Uncertainty.of({"a": scores})
    estimate = result.scores["a"]["AP 0.5"]
    assert estimate.value == scores.ap[0.5] == 0.5
    assert result.scores["a"]["PQ"].value == pytest.approx(scores.pq)
    assert result.scores["a"]["AJI"].value == scores.aji
    assert result.scores["a"]["IoU"].value == scores.iou["cell"]
    counts = np.array([[[right, 10] for right in rights]], float)
    assert estimate.interval == interval(counts)[0]
    assert (result.unit, result.count, result.baseline, result.differences) == ("image", 6, None, {})


def test_images_of_a_patient_are_drawn_together():
    """Within each patient the images differ much, the patients do not: the interval has no width."""
    scores = scored([2, 8, 2, 8, 2, 8], ["p", "p", "q", "q", "r", "r"])
    result = Uncertainty.of({"a": scores})
    assert (result.unit, result.count) == ("group", 3)
    assert result.scores["a"]["AP 0.5"].interval == pytest.approx((0.5, 0.5))


def test_the_others_are_compared_with_the_baseline_on_the_same_images():
    one, other = [2, 4, 9, 5, 7, 3], [1, 3, 8, 4, 6, 2]
    result = Uncertainty.of({"one": scored(one), "other": scored(other)}, "one")
    assert list(result.differences) == ["other"]
    difference = result.differences["other"]["AP 0.5"]
    assert difference.value == pytest.approx(-0.1)
    assert difference.interval == pytest.approx((-0.1, -0.1))
    assert difference.is_clear
    counts = [np.array([[[right, 10] for right in rights]], float) for rights in (other, one)]
    assert difference == compare(*counts)


def test_one_image_has_scores_and_no_interval():
    result = Uncertainty.of({"one": scored([2]), "other": scored([4])}, "one")
    assert result.scores["one"]["AP 0.5"] == (0.2, None)
    difference = result.differences["other"]["AP 0.5"]
    assert difference.value == pytest.approx(0.2)
    assert (difference.interval, difference.p_value, difference.is_clear) == (None, None, False)


def test_methods_that_are_equal_tie():
    result = Uncertainty.of({"one": scored([2, 5, 7]), "other": scored([2, 5, 7])}, "one")
    difference = result.differences["other"]["F1"]
    assert (difference.value, difference.interval, difference.p_value) == (0, (0, 0), 1)
    assert not difference.is_clear


def test_is_json_also_where_nothing_is_defined():
    empty = Segmentation.empty((4, 4))
    nothing = sum(
        (Statistics.of(empty, empty, NAMES, name=name) for name in "ab"), Statistics.empty(NAMES)
    ).compute()
    result = Uncertainty.of({"one": nothing, "other": nothing}, "one")
    assert math.isnan(result.scores["one"]["PQ"].value)
    content = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert content["options"] == {"unit": "image", "units": 2, "level": 0.95, "resamples": 2000}
    assert content["scores"]["one"]["PQ"] == {"value": None, "interval": None}
    assert content["differences"]["other"]["PQ"]["is_clear"] is False
    assert Uncertainty.of({}).as_dict()["scores"] == {}
    assert Uncertainty.of({"one": Statistics.empty(NAMES).compute()}).scores == {"one": {}}
