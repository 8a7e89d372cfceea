import base64
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from segjax.data.records import Record
from segjax.evaluation.evaluate import Evaluation, evaluate_records
from segjax.metrics.counting import CountInterval
from segjax.metrics.details import DetailOptions
from segjax.metrics.detections import DetectionCounts, Detections, detection_scores
from segjax.metrics.scores import Statistics
from segjax.report import evaluation_pictures
from segjax.report.evaluation_page import EvaluationReport, write_report
from segjax.report.evaluation_pictures import MISSED, SPURIOUS, choose_images, example
from segjax.segmentation import Segmentation

NAMES = ("background", "nucleus", "micronucleus")
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'
VOID = {"meta", "link", "img", "input", "br"}
SCRIPT = ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "innerHTML", "eval(")


class Page(HTMLParser):
    """Tags, attributes and text of a page; checks that every tag is closed."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.text, self.cells, self.open = [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if {"td", "th"} & set(self.open) and data.strip():
            self.cells.append((data.strip(), "strong" in self.open))

    def values(self, *names):
        return [value for _, name, value in self.attributes if name in names]


class Images(list):
    """A source of records."""

    def __init__(self, records, class_names=NAMES):
        super().__init__(records)
        self.class_names = class_names


def record(seed: int, *, shape=(40, 50), channels=1, name=None) -> Record:
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    labels[4:20, 4:20], labels[24:30, 30:36] = 1, 2
    image = rng.integers(0, 4000, (*shape, channels)).astype(np.uint16)
    return Record(name or f"image {seed}", f"{seed}", image, Segmentation.from_labels(labels, classes=[1, 2]))


def shifted(truth: Segmentation) -> Segmentation:
    labels = np.roll(truth.labels, 3, axis=1)
    labels[30:36, 4:10] = 3  # a false positive
    return Segmentation.from_labels(labels, classes=[1, 2, 1])


def evaluated(source, predict, aps=None) -> Evaluation:
    """Evaluates predictions; `aps` replaces the AP 0.5 of each image."""
    predictions = {one.name: predict(one.truth) for one in source}
    counts = [
        Statistics.of(
            one.truth,
            predictions[one.name],
            source.class_names,
            name=one.name,
            group=one.group,
            details=DetailOptions(),
        )
        for one in source
    ]
    scores = sum(counts, start=Statistics.empty(source.class_names)).compute()
    per_image = {one.name: count.compute() for one, count in zip(source, counts, strict=True)}
    for (name, one), ap in zip(per_image.items(), aps or [], strict=bool(aps)):
        per_image[name] = dataclasses.replace(one, ap=one.ap | {0.5: ap})
    return Evaluation(scores, per_image, lambda record: predictions[record.name], 1.5)


def both(source, aps=None):
    return {"model": evaluated(source, lambda truth: truth, aps), "reference": evaluated(source, shifted)}


def write_page(path, source, evaluations, **others) -> Page:
    fields = {"data_set": "cells", "split": "test", "environment": {}, "config": {}, "train_seconds": 12.5}
    baseline = "reference" if "reference" in evaluations else None
    report = EvaluationReport(source=source, evaluations=evaluations, baseline=baseline, **(fields | others))
    write_report(path, report)
    return Page(path / "index.html")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    source = Images(record(seed) for seed in range(5))
    return write_page(
        tmp_path_factory.mktemp("report"),
        source,
        both(source, aps=[0.5, math.nan, 0.9, 0.1, 0.7]),
        curve=[{"step": s, "loss": 1 / (s + 1), "dice": 0.5} for s in range(5)],
        environment={"hardware": "one CPU", "versions": {"jax": "0.10.2"}},
        config={"rate": 0.0003},
        warnings=["Two of five images are of one patient."],
    )


def test_nothing_comes_from_outside(page):
    sources = page.values("src", "href", "srcset", "action", "data")
    assert all(value.startswith(("data:", "#")) for value in sources)
    assert page.tags.count("script") == 1
    text = "".join(page.text)
    for word in ("@import", "url(", *SCRIPT):
        assert word not in text
    # What is linked within the page is there.
    ids = set(page.values("id"))
    assert {value[1:] for value in sources if value.startswith("#")} <= ids


def test_pictures_decode_and_are_named(page):
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    charts = [uri for uri in pictures if uri.startswith("data:image/png")]
    assert len(charts) == 3
    pictures = [uri for uri in pictures if uri not in charts]
    assert len(pictures) == 5 * 4
    for uri in pictures:
        kind, _, content = uri.partition(";base64,")
        assert kind == "data:image/jpeg"
        picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
        assert picture.width <= 512
        assert picture.width % 50 == 0  # a small image grows by whole steps
        assert picture.width * 40 == picture.height * 50
    names = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert names[0] == "AP by threshold of IoU: model 1.000 at 0.5; reference 0.500 at 0.5"
    assert names[1:3] == ["loss at 5 steps, last 0.2", "dice at 5 steps, last 0.5"]
    assert names[3:7] == ["image 2: image", "image 2: truth", "image 2: by model", "image 2: by reference"]


def test_numbers_are_those_of_the_scores(page):
    evaluations = both(Images(record(seed) for seed in range(5)))
    better, worse = (evaluations[name].scores for name in ("model", "reference"))
    for name in ("pq", "aji", "f1", "mean_iou", "pixel_accuracy"):
        assert (f"{getattr(better, name):.3f}", name in ("pq", "aji", "f1")) in page.cells
        assert (f"{getattr(worse, name):.3f}", False) in page.cells
        assert (f"{getattr(worse, name):.3f}", True) not in page.cells
    cost = worse.details["errors"]["all"]["missed"].d_ap
    assert (f"{cost:+.3f}", False) in page.cells
    text = " ".join("".join(page.text).split())
    shown = (
        f"AP 0.5{better.ap[0.5]:.3f}[1.000, 1.000] reference {worse.ap[0.5]:.3f} (+{1 - worse.ap[0.5]:.3f})"
    )
    assert shown in text
    assert "refer to instances and pixels of nucleus" in text


def test_best_and_worst_come_first_and_undefined_scores_last(page):
    titles = re.findall(r"image \d(?=\s|best|worst|enlarge|AP)", " ".join("".join(page.text).split()))
    assert list(dict.fromkeys(titles)) == ["image 2", "image 3", "image 4", "image 0", "image 1"]


def test_warnings_curves_and_environment_are_there(page):
    text = "".join(page.text)
    assert "Two of five images are of one patient." in text
    for piece in (
        "versions.jax",
        "0.10.2",
        "config.rate",
        "0.0003",
        "seconds.train",
        "12.5",
        "seconds.evaluate",
    ):
        assert piece in text


def test_the_interval_of_the_count_and_the_boxes_of_a_detector_have_a_place(tmp_path):
    source = Images([record(0)])
    counts = DetectionCounts.of(
        source[0].truth, Detections(np.array([[4.0, 4, 20, 20]]), np.ones(1, int), np.array([0.9])), NAMES
    )
    page = write_page(
        tmp_path,
        source,
        both(source),
        boxes=detection_scores([counts], NAMES),
        count_interval=CountInterval(0.9, 1.5),
    )
    text = " ".join("".join(page.text).split())
    assert "n ± 1.500" in text
    assert "with a probability of about 90 %, fitted to validation images." in text
    assert "The true number lies in this interval for 100 % of the images" in text
    assert page.cells.count(("boxes of the detector", False)) > 8
    assert "A single image has no interval." in text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["count_interval"] == {"level": 0.9, "width": 1.5, "coverage": 1}
    assert metrics["boxes"]["errors"]["all"]["missed"]["truth"] == 1
    assert metrics["boxes"]["coco"]["box"]["nucleus"]["ap"] == pytest.approx(1)


def test_hostile_names_are_text(tmp_path):
    source = Images([record(0, name=HOSTILE)], ("background", HOSTILE, "b"))
    page = write_page(
        tmp_path,
        source,
        {HOSTILE: evaluated(source, lambda truth: truth)},
        data_set=HOSTILE,
        split=HOSTILE,
        curve=[{"step": 0, HOSTILE: 1.0}, {"step": 1, HOSTILE: 2.0}],
        environment={HOSTILE: HOSTILE},
        warnings=[HOSTILE],
        stages=(HOSTILE, {HOSTILE: [(HOSTILE, np.zeros((4, 4, 3), np.uint8))]}),
    )
    assert page.tags.count("script") == 1
    assert not page.values("onerror")
    assert "".join(page.text).count(HOSTILE) > 10


def test_of_many_images_the_best_and_the_worst_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation_pictures, "MAX_EXAMPLES", 4)
    source = Images(record(seed) for seed in range(7))
    page = write_page(tmp_path, source, both(source, aps=[0.5, 0.6, math.nan, 0.9, 0.1, 0.7, 0.2]))
    text = " ".join("".join(page.text).split())
    assert "4 of 7 are shown" in text
    titles = re.findall(r"image \d(?=best|worst| AP 0.5:)", text)
    assert titles == ["image 3", "image 4", "image 5", "image 6"]


def test_images_of_equal_names_have_their_own_pictures(tmp_path):
    source = Images(record(seed, name="image 0") for seed in range(3))
    predictions = [shifted(source[0].truth), source[1].truth, Segmentation.empty(source[2].truth.shape)]
    of_image = {id(one): prediction for one, prediction in zip(source, predictions, strict=True)}
    evaluations = {"model": evaluate_records(lambda one: of_image[id(one)], source)}
    chosen = choose_images(evaluations)
    assert chosen == [(1, "image 0 (2)", "best"), (2, "image 0 (3)", "worst"), (0, "image 0", "")]
    page = write_page(tmp_path, source, evaluations)
    text = " ".join("".join(page.text).split())
    assert re.findall(r"(image 0(?: \(\d\))?)(?:best|worst)? AP 0.5: model (\S+)", text) == [
        ("image 0 (2)", "1.000"),
        ("image 0 (3)", "0.000"),
        ("image 0", f"{evaluations['model'].per_image['image 0'].ap[0.5]:.3f}"),
    ]
    assert len(json.loads((tmp_path / "metrics.json").read_text())["per_image"]["model"]) == 3


def test_groups_sizes_boundaries_curves_and_confusion_have_a_place(tmp_path):
    source = Images(dataclasses.replace(record(seed), group=f"patient {seed % 2}") for seed in range(4))

    def scored(truth):
        other = shifted(truth)
        return dataclasses.replace(other, scores=np.array([0.9, 0.8, 0.3], np.float32))

    page = write_page(tmp_path, source, {"model": evaluated(source, scored)})
    text = " ".join("".join(page.text).split())
    for heading in (
        "By group",
        "Recall by size",
        "Boundaries",
        "COCO",
        "Errors by kind",
        "Classes of the pixels",
    ):
        assert heading in text
    assert ("patient 1", False) in page.cells
    assert "over 2 groups" in text
    charts = [uri for tag, name, uri in page.attributes if (tag, name) == ("img", "alt") and ": " in uri]
    assert charts[1].startswith("Precision and recall at IoU 0.5: model: nucleus 1.000 at a recall of 0.5")
    assert charts[2].startswith("Calibration of scores: model (ECE 0.4")


def test_every_picture_has_a_slider_for_the_keyboard(page):
    inputs = [value for tag, name, value in page.attributes if (tag, name) == ("input", "aria-label")]
    assert len(inputs) == 5
    assert inputs[0] == "image 2: border between truth and by model, percent from the left"


def test_what_is_missed_and_what_is_not_true_is_marked():
    """The truth has two cells. The prediction has the first one, and a cell of its own."""
    one = record(0, shape=(300, 300))
    labels = np.where(one.truth.labels == 1, 1, 0).astype(np.int32)
    labels[200:240, 200:240] = 2
    source = Images([one])
    evaluations = {"model": evaluated(source, lambda _: Segmentation.from_labels(labels, classes=[1, 1]))}
    shown = example(one, evaluations, one.name, "")
    assert shown["errors"] == {"model": "1 missed, 1 spurious"}
    (_, _), (_, truth), (_, prediction) = shown["pictures"]

    def pixels(picture, colour):
        return np.argwhere((picture == colour).all(axis=-1))

    missed, spurious = pixels(truth, MISSED), pixels(prediction, SPURIOUS)
    assert missed.min(axis=0).tolist() == [24, 30]
    assert missed.max(axis=0).tolist() == [29, 35]
    assert spurious.min(axis=0).tolist() == [200, 200]
    assert spurious.max(axis=0).tolist() == [239, 239]
    assert len(spurious) < 40 * 40  # the cell itself stays visible
    inside = prediction[220, 220].astype(int)  # tinted
    assert inside.tolist() != shown["pictures"][0][1][220, 220].tolist()
    assert not len(pixels(truth, SPURIOUS))
    assert not len(pixels(prediction, MISSED))


def test_without_images_curve_or_reference_there_is_still_a_report(tmp_path):
    nothing = Images([])
    page = write_page(tmp_path, nothing, {"model": evaluated(nothing, None)})
    assert page.tags.count("table") == 2
    assert "has no interval" not in "".join(page.text)
    assert not any(bold for _, bold in page.cells)
    assert "img" not in page.tags
    page = write_page(tmp_path, nothing, {})
    assert "table" in page.tags


def test_the_metrics_file_has_the_scores_of_each_method_and_image(tmp_path):
    source = Images(record(seed) for seed in range(2))
    evaluations = both(source)
    write_page(
        tmp_path, source, evaluations, step=7, split_facts={"split_sha256": "ab"}, environment={"a": 1}
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    keys = [
        "split",
        "methods",
        "uncertainty",
        "seconds",
        "step",
        "images",
        "split_sha256",
        "per_image",
        "environment",
    ]
    assert list(metrics) == keys
    assert metrics["methods"]["reference"] == evaluations["reference"].scores.as_dict()
    assert metrics["per_image"]["model"]["image 1"]["ap"]["0.5"] == 1
    assert metrics["seconds"] == {
        "train": 12.5,
        "evaluate": 1.5,
        "by_method": {"model": 1.5, "reference": 1.5},
    }
    write_page(tmp_path, source, evaluations, proposals={"recall": None})
    assert json.loads((tmp_path / "metrics.json").read_text())["proposals"] == {"recall": None}


@pytest.mark.parametrize(("shape", "channels"), [((700, 900), 3), ((40, 2000), 1), ((38, 40), 2)])
def test_images_of_any_shape_are_embedded_small(tmp_path, shape, channels):
    source = Images([record(0, shape=shape, channels=channels)])
    page = write_page(tmp_path, source, both(source))
    uri = next(uri for uri in page.values("src") if uri.startswith("data:image/jpeg"))
    width, height = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size
    assert width <= 512
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.05)
