import json
from types import SimpleNamespace

import numpy as np
from PIL import Image

from segjax.configs import classical
from segjax.experiment import classification, evaluation, methods
from segjax.experiment.evaluation import evaluate_classical
from segjax.experiment.evaluation_compare import Files, compare_and_write
from segjax.experiment.evaluation_extras import evaluate_detector
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.remembering import FOLDER, Memory
from segjax.metrics.scores import jsonable
from segjax.segmentation import Segmentation
from tests.experiment.test_validation import Images

LABELS = np.kron(np.array([[1, 0, 2]], np.int32), np.ones((4, 4), np.int32))


class Counting:
    """Counts the images that it segments; killed at one of them."""

    def __init__(self, method, stop=None):
        self.method, self.stop, self.calls = method, stop, 0

    def __call__(self, image):
        if self.calls == self.stop:
            raise KeyboardInterrupt
        self.calls += 1
        return self.method(image)


def evaluate(monkeypatch, folder, stop=None, **settings):
    """Evaluates a method on seven images of three classes; returns the number of segmented images."""
    config = classical.get_config("method=watershed,dataset=synthetic")
    config.methods = {"watershed": settings}
    for module in (classification, evaluation):
        monkeypatch.setattr(module, "open_split", lambda config, split: Images())
    counting = []

    def make_classical(config, name):
        counting.append(Counting(methods.make_classical(config, name), stop))
        return counting[-1]

    monkeypatch.setattr(classification, "make_classical", make_classical)
    try:
        evaluate_classical(config, "test", folder)
    except KeyboardInterrupt:
        assert stop is not None
    return counting[0].calls


def results(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    seconds = metrics.pop("seconds")
    return metrics, seconds["evaluate"], sorted(path.name for path in folder.iterdir())


def test_an_evaluation_that_was_killed_goes_on_where_it_was(monkeypatch, tmp_path):
    # The training split, whose segmentations fit the classifier, has the same images here.
    assert evaluate(monkeypatch, tmp_path / "undisturbed") == 7
    killed = tmp_path / "killed"
    assert evaluate(monkeypatch, killed, stop=4) == 4
    assert len(list((killed / FOLDER).glob("*.npz"))) == 4
    assert evaluate(monkeypatch, killed, stop=2) == 2
    assert evaluate(monkeypatch, killed) == 1
    metrics, _, names = results(killed)
    expected, _, expected_names = results(tmp_path / "undisturbed")
    assert metrics == expected
    # What was remembered is gone.
    assert names == expected_names == ["classifier_watershed.json", "index.html", "metrics.json"]


def test_other_settings_and_damaged_files_are_not_used(monkeypatch, tmp_path):
    assert evaluate(monkeypatch, tmp_path, stop=4) == 4
    first, *_ = (tmp_path / FOLDER).glob("*.npz")
    first.write_bytes(first.read_bytes()[:100])
    assert evaluate(monkeypatch, tmp_path, stop=5, min_area=3) == 5
    assert len(list((tmp_path / FOLDER).glob("*.npz"))) == 9
    assert evaluate(monkeypatch, tmp_path) == 7 - 3


def test_an_evaluation_is_not_ended_by_a_folder_that_cannot_be_written(tmp_path, caplog):
    (tmp_path / FOLDER).write_text("a file")
    counting = Counting(lambda image: Segmentation.from_labels(LABELS))
    method = Memory(tmp_path).method(counting, "digest")
    for _ in range(2):
        np.testing.assert_array_equal(method(np.zeros((4, 12, 1))).labels, LABELS)
    assert counting.calls == 2
    assert caplog.text.count("the next one starts again") == 1


def test_methods_without_a_digest_and_other_pixels_are_not_remembered(tmp_path):
    counting = Counting(lambda image: Segmentation.from_labels(LABELS))
    memory = Memory(tmp_path)
    images = [
        np.zeros((4, 12, 1)),
        np.zeros((4, 12, 1), np.float32),
        np.ones((4, 12, 1)),
        np.zeros((12, 4, 1)),
    ]
    for image in images * 2:
        memory.method(counting, "one")(image)
    assert counting.calls == 4
    memory.method(counting, "two")(images[0])
    assert counting.calls == 5
    for _ in range(2):
        memory.method(counting, "")(images[0])
    assert counting.calls == 7


def test_the_duration_includes_that_of_earlier_starts(tmp_path, monkeypatch):
    clock = iter([0.0, 20.0, 20.0, 23.0])
    monkeypatch.setattr("segjax.experiment.remembering.time", SimpleNamespace(monotonic=lambda: next(clock)))
    images = np.arange(2.0).reshape(2, 1, 1, 1) + np.zeros((2, 4, 12, 1))
    for image in images:
        Memory(tmp_path).method(lambda image: Segmentation.from_labels(LABELS), "digest")(image)
    memory = Memory(tmp_path)
    for image in images:
        memory.method(None, "digest")(image)
    assert memory.seconds == 23.0


def test_boxes_and_proposals_of_a_detector_are_remembered(tmp_path):
    class Detector:
        calls = 0

        def detect(self, image):
            self.calls += 1
            boxes = np.array([[0, 0, 4, 4], [7, 0, 12, 4]], float)
            return {"boxes": boxes, "classes": np.array([1, 1]), "scores": np.array([0.9, 0.8])}

        def propose(self, image):
            self.calls += 1
            return np.array([[0, 0, 4, 4]], float)

    class Source(list):
        class_names = ("background", "cell")

    truth = Segmentation.from_labels(LABELS)
    images = (np.full((4, 12, 1), index, np.uint8) for index in range(3))
    source = Source(SimpleNamespace(name=str(i), image=image, truth=truth) for i, image in enumerate(images))
    opened = OpenedMethod(Detector(), digest="digest")
    first = evaluate_detector(opened, source, Memory(tmp_path))
    assert opened.method.calls == 6
    assert jsonable(first[1]) == jsonable(evaluate_detector(opened, source, Memory(tmp_path))[1])
    assert opened.method.calls == 6
    assert first[0] == {"mean_count": 1.0, "recall": 0.5}


def test_a_comparison_remembers_in_a_folder_of_its_file(tmp_path, monkeypatch):
    for name, values in (("truth", LABELS.astype(np.uint8)), ("images", 200 * (LABELS > 0).astype(np.uint8))):
        (tmp_path / name).mkdir()
        Image.fromarray(values).save(tmp_path / name / "a.png")
    files = Files(str(tmp_path / "truth"), images=str(tmp_path / "images"))
    seen = []
    forget = Memory.forget

    def forget_and_note(self):
        seen.extend(path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*.npz"))
        forget(self)

    monkeypatch.setattr(Memory, "forget", forget_and_note)
    compare_and_write(["watershed"], files, "test", out=None, json=tmp_path / "scores" / "s.json")
    assert seen == [("scores", f"{FOLDER}_s.json")]
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["s.json"]
