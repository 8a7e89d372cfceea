import dataclasses

import numpy as np
import pytest

from segjax.data.records import Record
from segjax.evaluation.evaluate import evaluate_labels
from segjax.experiment.validation import Validation, validation_metrics
from segjax.segmentation import Segmentation
from tests.train.threads import run_processes

NAMES = ("background", "nucleus", "body")


@dataclasses.dataclass
class Source:
    """Images with one cell of each class."""

    class_names: tuple[str, ...] = NAMES

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return Record(f"cell{index}", "one", np.zeros((8, 8, 1), np.uint8), cells(1, 2))


def cells(*classes):
    """Two cells; one of class 0 is not predicted."""
    labels = np.zeros((8, 8), np.int32)
    present = [index for index in classes if index]
    number = 0
    for place, index in enumerate(classes):
        if index:
            number += 1
            labels[1:3, 4 * place : 4 * place + 2] = number
    return Segmentation.from_labels(labels, classes=np.array(present, np.int32))


class Predictor:
    """Predicts the same for each image; the parameters are the classes."""

    params = (1, 2)

    def __call__(self, image):
        return cells(*self.params)


NONE = "No instance of any class was predicted"
NO_BODY = "No instance of class 'body' was predicted"


@pytest.mark.parametrize(
    ("predictions", "warnings"),
    [
        pytest.param([(1, 2), (1, 2)], [], id="all classes"),
        pytest.param([(1, 0), (1, 2), (1, 0)], [], id="once"),
        pytest.param([(1, 0), (1, 0)], [NO_BODY], id="a class twice"),
        pytest.param([(0, 0), (0, 0)], [NONE], id="all foreground"),
        pytest.param([(0, 0), (1, 0)], [NO_BODY], id="one recovers"),
        pytest.param(
            [(2, 1), (2, 1)], ["No pixel of class 'nucleus' was right", "'body' was"], id="exchanged"
        ),
    ],
)
def test_says_that_a_class_is_no_longer_predicted(caplog, predictions, warnings):
    validation = Validation(Predictor(), Source(), None)
    for params in predictions:
        validation(params, lambda: None)
    assert len(caplog.records) == len(warnings)
    for text in warnings:
        assert text in caplog.text
    assert caplog.text.count("in the last 2 validations: likely causes are") == len(warnings)


def test_checks_before_each_image_whether_to_stop():
    calls = []
    Validation(Predictor(), Source(), None)((1, 2), lambda: calls.append(1))
    assert len(calls) == len(Source())


class Images:
    """Images whose pixels are the labels that `Reader` predicts for them, and a truth of other sizes."""

    class_names = NAMES

    def __len__(self):
        return 7

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        true, predicted = np.zeros((2, 40, 40), np.int32)
        for number, (row, column) in enumerate(np.argwhere(np.ones((3, 3))) * 13, start=1):
            for labels in (true, predicted):
                labels[row : row + rng.integers(7, 12), column : column + rng.integers(7, 12)] = number
        truth = Segmentation.from_labels(true, classes=rng.integers(1, 3, 9))
        return Record(f"image{index}", "one", predicted[..., None].astype(np.uint8), truth)


class Reader:
    def __init__(self):
        self.seen = []

    def __call__(self, image):
        self.seen.append(image.sum())
        return Segmentation.from_labels(image[..., 0], classes=np.arange(9) % 2 + 1)


@pytest.mark.parametrize("count", [2, 3, 9])
def test_several_processes_have_the_scores_of_one_to_the_last_bit(monkeypatch, count):
    expected = Validation(Reader(), Images(), None)((), lambda: None)
    reader, checks = Reader(), []
    results, _ = run_processes(
        monkeypatch, count, lambda: Validation(reader, Images(), None)((), lambda: checks.append(1))
    )
    assert results == [expected] * count
    assert 0 < expected["ap"]["0.5"] < 1
    # Each image is segmented once; all processes ask equally often whether to stop.
    assert sorted(reader.seen) == sorted(record.image.sum() for record in map(Images().__getitem__, range(7)))
    assert len(checks) == count * -(-7 // count)


def test_several_processes_warn_of_a_collapse_as_one_does(monkeypatch, caplog):
    def work():
        validation = Validation(Predictor(), Source(), None)
        for _ in range(2):
            validation((1, 0), lambda: None)

    run_processes(monkeypatch, 2, work)
    assert [NO_BODY in record.message for record in caplog.records] == [True, True]


def test_a_class_without_a_pixel_counts_as_zero_in_the_score_of_a_checkpoint():
    truth = Segmentation.from_labels(np.pad(np.ones((4, 4), int), 2))
    scores = evaluate_labels(truth, truth, class_names=("background", "nucleus", "bright body"))
    assert np.isnan(scores.iou["bright body"])
    metrics = validation_metrics(scores)
    assert metrics["score"] == 0.5 + 1.0
    assert metrics["iou"] == {"background": 1.0, "nucleus": 1.0, "bright body": None}
