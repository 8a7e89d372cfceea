import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from segjax.metrics import Scores
from segjax.report import Example, write_report
from segjax.segmentation import Segmentation

NAMES = ("background", "nucleus", "micronucleus")
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'
VOID = {"meta", "link", "img", "input", "br", "line", "polyline", "circle"}


class Page(HTMLParser):
    """What a browser would see: tags, attributes, text, and that every tag is closed."""

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


def example(seed: int, *, shape=(40, 50), channels=1, name=None, hit=0.9) -> Example:
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    labels[4:20, 4:20], labels[24:30, 30:36] = 1, 2
    truth = Segmentation.from_labels(labels, classes=[1, 2])
    image = rng.integers(0, 4000, (*shape, channels)).astype(np.uint16)
    shifted = np.roll(labels, 3, axis=1)
    shifted[30:36, 4:10] = 3  # invented
    predictions = {"model": truth, "reference": Segmentation.from_labels(shifted, classes=[1, 2, 1])}
    return Example(name or f"image {seed}", image, truth, predictions, {"model": hit, "reference": 0.25})


def metrics_of(examples):
    methods = {}
    for name in ("model", "reference"):
        parts = (Scores.of(e.truth, e.predictions[name], NAMES) for e in examples)
        methods[name] = sum(parts, start=Scores.empty(NAMES)).compute()
    return {"split": "test", "methods": methods, "seconds": {"train": 12.5, "evaluate": None}}


def written(path, examples, *, metrics=None, **others) -> Page:
    metrics = metrics_of(examples) if metrics is None else metrics
    fields = {"title": "a run", "class_names": NAMES, "metrics": metrics, "examples": examples}
    write_report(path / "index.html", **(fields | others))
    return Page(path / "index.html")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    examples = [example(seed, hit=hit) for seed, hit in enumerate((0.5, None, 0.9, 0.1, 0.7))]
    return written(
        tmp_path_factory.mktemp("report"),
        examples,
        curve=[{"step": s, "loss": 1 / (s + 1), "dice": 0.5} for s in range(5)],
        environment={"hardware": "one CPU", "versions": {"jax": "0.10.2"}, "config": {"rate": 0.0003}},
        warnings=["Two of five images are of one patient."],
    )


def test_nothing_comes_from_outside(page):
    sources = page.values("src", "href", "srcset", "action", "data")
    assert all(value.startswith(("data:", "#")) for value in sources)
    assert "script" not in page.tags
    style = "".join(page.text)
    assert "@import" not in style
    assert "url(" not in style
    # What is linked within the page is there.
    ids = set(page.values("id"))
    assert {value[1:] for value in sources if value.startswith("#")} <= ids


def test_pictures_decode_and_are_named(page):
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(pictures) == 5 * 4
    for uri in pictures:
        kind, _, content = uri.partition(";base64,")
        assert kind == "data:image/jpeg"
        picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
        assert picture.width <= 512
        assert picture.width % 50 == 0  # a small image grows by whole steps
        assert picture.width * 40 == picture.height * 50
    names = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert names[:4] == ["image 2: image", "image 2: truth", "image 2: by model", "image 2: by reference"]


def test_numbers_are_those_of_the_metrics(page):
    metrics = metrics_of([example(seed) for seed in range(5)])["methods"]
    better, worse = metrics["model"], metrics["reference"]
    for key in ("pq", "aji", "f1", "mean_iou", "pixel_accuracy"):
        assert (f"{better[key]:.3f}", True) in page.cells
        assert (f"{worse[key]:.3f}", False) in page.cells
        assert (f"{worse[key]:.3f}", True) not in page.cells
    text = " ".join("".join(page.text).split())
    assert f"AP 0.5{better['ap']['0.5']:.3f}reference {worse['ap']['0.5']:.3f}" in text
    assert "about instances and pixels of nucleus" in text


def test_best_and_worst_come_first_and_what_was_not_judged_last(page):
    titles = re.findall(r"image \d(?=\s|best|worst|enlarge|AP)", " ".join("".join(page.text).split()))
    assert list(dict.fromkeys(titles)) == ["image 2", "image 3", "image 4", "image 0", "image 1"]


def test_warnings_curves_and_environment_are_there(page):
    text = "".join(page.text)
    assert "Two of five images are of one patient." in text
    assert page.tags.count("svg") == 2
    for piece in ("versions.jax", "0.10.2", "config.rate", "0.0003", "seconds.train", "12.5"):
        assert piece in text
    assert "seconds.evaluate" not in text


def test_hostile_names_are_text(tmp_path):
    names = ("background", HOSTILE, "b")
    one = example(0, name=HOSTILE)
    scores = {HOSTILE: Scores.of(one.truth, one.truth, names).compute()}
    hostile = Example(HOSTILE, one.image, one.truth, {HOSTILE: one.truth}, {HOSTILE: 0.5})
    page = written(
        tmp_path,
        [hostile],
        title=HOSTILE,
        class_names=names,
        metrics={"split": HOSTILE, "methods": scores},
        curve=[{"step": 0, HOSTILE: 1.0}, {"step": 1, HOSTILE: 2.0}],
        environment={HOSTILE: HOSTILE},
        warnings=[HOSTILE],
        score_name=HOSTILE,
    )
    assert "script" not in page.tags
    assert not page.values("onerror")
    assert "".join(page.text).count(HOSTILE) > 10


def test_of_many_images_the_first_in_order_are_shown(tmp_path):
    examples = [example(seed, hit=seed / 10) for seed in range(6)]
    page = written(tmp_path, examples, max_examples=3)
    assert page.tags.count("article") == 3
    assert "3 of 6 are shown" in "".join(page.text)


def test_without_examples_curve_or_reference_there_is_still_a_report(tmp_path):
    metrics = metrics_of([example(0)])
    del metrics["methods"]["reference"]
    page = written(tmp_path, [], metrics=metrics)
    assert page.tags.count("table") == 2
    assert not any(bold for _, bold in page.cells)
    assert "img" not in page.tags
    page = written(tmp_path, [], metrics={"split": "test", "methods": {}})
    assert "table" in page.tags


@pytest.mark.parametrize(("shape", "channels"), [((700, 900), 3), ((40, 2000), 1), ((38, 40), 2)])
def test_images_of_any_shape_are_embedded_small(tmp_path, shape, channels):
    page = written(tmp_path, [example(0, shape=shape, channels=channels)])
    uri = next(value for tag, name, value in page.attributes if (tag, name) == ("img", "src"))
    width, height = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size
    assert width <= 512
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.05)
