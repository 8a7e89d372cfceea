import json

import numpy as np
import pytest

from segjax.classical.classifier import DESCRIPTORS, descriptors, fit, load, training_classes
from segjax.classical.measurements import measure
from segjax.errors import InputError
from segjax.segmentation import Segmentation
from tests.classical.cells import discs

NAMES = ("background", "nucleus", "micronucleus", "smear")


def example(seed, scale=1.0):
    """Large dim and small bright discs: an image and its truth."""
    rng = np.random.default_rng(seed)
    size = int(160 * scale)
    labels, classes = np.zeros((size, size), np.int32), []
    for row in range(4):
        for column in range(4):
            small = (row + column) % 3 == 0
            radius = rng.uniform(3, 4) if small else rng.uniform(11, 15)
            circle = ((20 + 40 * row) * scale, (20 + 40 * column) * scale, radius * scale)
            labels[discs(labels.shape, circle)] = len(classes) + 1
            classes.append(2 if small else 1)
    image = rng.normal(100, 5, (*labels.shape, 1)) + 400 * (labels > 0)[..., None]
    return image, Segmentation.from_labels(labels, classes=classes)


def trained():
    pairs = [example(seed) for seed in range(3)]
    return fit([measure(*pair) for pair in pairs], [truth.classes for _, truth in pairs], class_names=NAMES)


def test_learns_what_small_is_at_any_magnification():
    classifier = trained()
    for scale in (1.0, 2.0):
        image, truth = example(9, scale)
        unknown = Segmentation.from_labels(truth.labels)
        classified = classifier.classify(image * 7 + 3, unknown)
        np.testing.assert_array_equal(classified.classes, truth.classes)
        np.testing.assert_array_equal(classified.labels, truth.labels)
        assert (classified.scores > 0.5).all()
        assert set(np.unique(classified.semantic)) == {0, 1, 2}


def test_what_is_written_classifies_alike(tmp_path):
    classifier, (image, truth) = trained(), example(5)
    classifier.save(tmp_path / "classifier.json")
    again = load(tmp_path / "classifier.json").classify(image, truth)
    np.testing.assert_allclose(again.scores, classifier.classify(image, truth).scores, rtol=1e-6)
    assert load(tmp_path / "classifier.json").class_names == NAMES


def test_one_class_or_none_is_no_reason_to_fail():
    image, truth = example(1)
    table = measure(image, truth)
    only = fit([table], [np.full(len(truth.classes), 3)], class_names=NAMES)
    assert (only.classify(image, truth).classes == 3).all()
    none = fit([], [], class_names=NAMES)
    assert (none.classify(image, truth).classes == 1).all()
    nothing = Segmentation.empty(truth.shape)
    assert trained().classify(image, nothing) is nothing
    three = fit([table], [np.arange(len(truth.classes)) % 3 + 1], class_names=NAMES)
    assert three.weights.shape == (len(DESCRIPTORS), 3)


def test_descriptors_are_finite_for_anything():
    image = np.full((20, 20, 2), 7.0)
    labels = np.zeros((20, 20), int)
    labels[3, 3] = 1
    values = descriptors(measure(image, Segmentation.from_labels(labels)))
    assert values.shape == (1, len(DESCRIPTORS))
    assert np.isfinite(values).all()
    assert descriptors(measure(image, Segmentation.empty((20, 20)))).shape == (0, len(DESCRIPTORS))


def test_instances_are_taught_what_most_of_them_is():
    truth = np.zeros((10, 10), int)
    truth[:5, :4], truth[:5, 4:8] = 1, 2
    truth = Segmentation.from_labels(truth, classes=[2, 1])
    prediction = np.zeros((10, 10), int)
    prediction[:5, :3] = 1  # in the first
    prediction[:5, 3:8] = 2  # a fifth in the first, the rest in the second
    prediction[5:, :5] = 3  # in nothing
    prediction[4:6, 8:] = 4
    assert training_classes(Segmentation.from_labels(prediction), truth).tolist() == [2, 1, 0, 0]
    assert (
        training_classes(Segmentation.from_labels(prediction), Segmentation.empty((10, 10))).tolist()
        == [0] * 4
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "another version"),
        ({"weights": [[0.0]]}, "weights must be"),
        ({"mean": [float("nan")] * len(DESCRIPTORS)}, "mean must be"),
        ({"classes": [1, 9]}, "out of range"),
        ({"bias": "x"}, "no classifier"),
    ],
)
def test_a_damaged_file_is_not_trusted(tmp_path, change, message):
    path = tmp_path / "classifier.json"
    trained().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        load(path)


def test_says_where_a_classifier_comes_from(tmp_path):
    with pytest.raises(InputError, match="segjax evaluate"):
        load(tmp_path / "missing.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(InputError, match="no classifier"):
        load(tmp_path / "text.json")
