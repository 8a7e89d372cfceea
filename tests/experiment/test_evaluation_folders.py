import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.mixture import MixedSource
from segjax.datasets.sources import FolderSource
from segjax.errors import InputError
from segjax.evaluation.evaluate import evaluate_labels
from segjax.experiment import environment
from segjax.experiment.evaluation_compare import Files, compare, compare_and_write
from segjax.experiment.evaluation_folders import PredictionFolder
from segjax.experiment.remembering import Memory
from segjax.inference.exports.label_images import class_image, label_image, write_tiff
from segjax.segmentation import Segmentation
from tests.datasets.folder.test_builder import make, staged  # noqa: F401 - a fixture
from tests.datasets.formats.written import cells, write_dataset

CLASSES = ("background", "round", "flat")


def drawn(first: int, num_classes: int = 2):
    """Two images of made-up cells; other seeds have other cells."""
    return {f"plate/{index}": cells(first + index, num_classes=num_classes) for index in (0, 1)}


def shifted(labels):
    """The same cells, one pixel to the right."""
    return np.pad(labels[:, :-1], ((0, 0), (1, 0)))


def save(folder, **labels):
    """Writes label images as TIFF."""
    folder.mkdir(exist_ok=True)
    for name, image in labels.items():
        tifffile.imwrite(folder / f"{name}.tif", image)
    return str(folder)


def squares(*corners, shape=(20, 30)):
    labels = np.zeros(shape, np.uint16)
    for index, (y, x) in enumerate(corners, start=1):
        labels[y : y + 4, x : x + 4] = index
    return labels


def scored(truth, *prediction, **files):
    return compare(
        (), Files(str(truth), tuple(map(str, prediction)), **files), "test", Memory(Path(truth).parent)
    )


@pytest.mark.parametrize("form", ["labels", "coco", "qupath", "labelme", "imagej"])
def test_predictions_of_every_format_have_the_scores_of_their_label_images(tmp_path, form):
    truth = drawn(0)
    labels, classes = truth["plate/0"]
    prediction = truth | {"plate/0": (shifted(labels), classes)}
    path = write_dataset("labels", tmp_path / "truth", truth)
    report = scored(path, write_dataset(form, tmp_path / "p", prediction), prediction_format=form)
    (scores,) = report.scores.values()
    pairs = [(truth[key][0], prediction[key][0]) for key in truth]
    names = ("background", "cell")
    right = sum(
        (evaluate_labels(*pair, class_names=names) for pair in pairs[1:]),
        evaluate_labels(*pairs[0], class_names=names),
    )
    result, expected = scores.as_dict(), right.as_dict()
    assert {key: result[key] for key in ("ap", "pq", "aji", "iou", "published", "errors")} == {
        key: expected[key] for key in ("ap", "pq", "aji", "iou", "published", "errors")
    }
    assert 0 < scores.pq < 1
    assert list(next(iter(report.evaluations.values())).per_image) == ["plate_0", "plate_1"]


def test_classes_are_compared_by_their_names(tmp_path):
    truth = drawn(0, 3)
    other = {
        key: (labels, {i: 3 - index for i, index in classes.items()})
        for key, (labels, classes) in truth.items()
    }
    path = write_dataset("coco", tmp_path / "truth", truth, CLASSES)
    same = scored(path, write_dataset("qupath", tmp_path / "p", truth, CLASSES))
    (scores,) = same.scores.values()
    assert (scores.per_class["round"].pq, scores.per_class["flat"].pq) == (1, 1)
    swapped = scored(path, write_dataset("coco", tmp_path / "q", other, CLASSES))
    (scores,) = swapped.scores.values()
    assert (scores.per_class["round"].pq, scores.all.pq) == (0, 1)
    # Without classes, the prediction is compared in one class.
    plain = scored(path, write_dataset("labels", tmp_path / "r", truth))
    (scores,) = plain.scores.values()
    assert list(scores.per_class) == ["cell"]
    assert scores.pq == 1
    assert "A prediction has no classes: all instances are of one class." in plain.warnings


@pytest.mark.parametrize("names", [CLASSES, ("background", "debris", "cell")])
def test_predictions_and_methods_without_classes_are_compared_in_one_class(tmp_path, names):
    truth = drawn(0, 3)
    path = write_dataset("coco", tmp_path / "truth", truth, names)
    plain = scored(path, write_dataset("labels", tmp_path / "labels", truth))
    (tmp_path / "images").mkdir()
    images = {key.removeprefix("plate/"): 200 * (labels > 0) for key, (labels, _) in truth.items()}
    save(tmp_path / "images/plate", **{name: image.astype(np.uint8) for name, image in images.items()})
    files = Files(str(path), images=str(tmp_path / "images"))
    method = compare(["watershed"], files, "test", Memory(tmp_path))
    for report, least in ((plain, 1), (method, 0.3)):
        (scores,) = report.scores.values()
        assert list(scores.per_class) == ["cell"]
        assert scores.pq >= least
        assert "A prediction has no classes: all instances are of one class." in report.warnings


def test_scores_of_coco_predictions_count_also_as_a_list_of_results(tmp_path):
    truth = drawn(0)
    path = write_dataset("coco", tmp_path / "truth", truth)
    document = json.loads(path.read_text())
    fields = ("image_id", "category_id", "segmentation")
    results = [
        {field: entry[field] for field in fields} | {"score": 0.9 if index % 2 else 0.45}
        for index, entry in enumerate(document["annotations"])
    ]
    entries = [{"id": index, **one} for index, one in enumerate(results)]
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "document.json").write_text(json.dumps(document | {"annotations": entries}))
    for name in ("results.json", "document.json"):
        scores = scored(path, tmp_path / name).scores[name]
        assert scores.details["coco"]["mask"]["mean"].ap == pytest.approx(1)
        assert scores.details["calibration"]["all"].count[4] == math.ceil(len(results) / 2)
    # Percentages and logits have the same order, but are no probabilities.
    for better, worse in ((90, 45), (2.0, -0.5)):
        values = {0.9: better, 0.45: worse}
        (tmp_path / "other.json").write_text(
            json.dumps([one | {"score": values[one["score"]]} for one in results])
        )
        other = scored(path, tmp_path / "other.json")
        written = other.scores["other.json"].as_dict()
        assert written["coco"] == scores.as_dict()["coco"]
        assert "calibration" not in written
        (warning,) = other.warnings
        assert "other.json has scores outside 0 to 1, so that it has no calibration: plate/0" in warning
    labels = write_dataset("labels", tmp_path / "labels", truth)
    with pytest.raises(InputError, match="results, which names images by numbers: give a truth in COCO's"):
        scored(labels, tmp_path / "results.json")


def test_the_folder_that_predict_writes_is_a_prediction(tmp_path):
    truth = squares((2, 2), (10, 10))
    save(tmp_path / "truth", a=truth)
    (tmp_path / "out").mkdir()
    predicted = Segmentation.from_labels(truth)
    write_tiff(label_image(predicted), tmp_path / "out" / "a_labels.tif")
    write_tiff(class_image(predicted), tmp_path / "out" / "a_classes.tif")
    assert scored(tmp_path / "truth", tmp_path / "out").scores["out"].pq == 1
    # Its COCO file, if there is one, also has scores.
    write_coco(tmp_path / "out" / "predictions.json", ((2, 2, 6, 6), {"score": 0.5}))
    scores = scored(tmp_path / "truth", tmp_path / "out").scores["out"]
    assert scores.recall == 0.5
    assert "coco" in scores.details


def test_only_the_names_of_the_images_are_read_before_their_predictions(tmp_path, staged, monkeypatch):  # noqa: F811
    make(tmp_path / "out", staged, {"train": range(4), "test": (4, 5)})
    source = FolderSource("train", data_dir=tmp_path / "out")
    records = [source[index] for index in range(len(source))]
    save(tmp_path / "p", **{record.name: record.truth.labels for record in records})

    mixed = MixedSource([source, FolderSource("test", data_dir=tmp_path / "out")])
    twice = MixedSource([source, source])

    def fail(self, index):
        raise AssertionError

    monkeypatch.setattr(FolderSource, "__getitem__", fail)
    assert source.names() == [record.name for record in records]
    assert sorted(mixed.names()) == [f"r{index}" for index in range(6)]
    folder = PredictionFolder(str(tmp_path / "p"), source)
    folder.use_classes(("background", "cell"))
    assert folder.predict(records[0]).num_instances == records[0].truth.num_instances
    with pytest.raises(
        InputError, match=r"two images of the truth are called r\d, and .* by name: compare on"
    ):
        PredictionFolder(str(tmp_path / "p"), twice)


every_id = np.zeros((256, 257), np.uint16)
every_id[:255] = np.arange(1, 2**16).reshape(255, 257)
every_id[255, 200:202] = 0, 1
INVALID = {
    "other images": (
        {"x": squares((2, 2))},
        "no prediction of a, b, 2 of 2 images; it has x, which the truth",
    ),
    "a missing prediction": (
        {"a": squares((2, 2))},
        "no prediction of b, 1 of 2 images: predict every image",
    ),
    "another size": (
        {"a": squares((2, 2)), "b": squares((2, 2), shape=(20, 31))},
        r"b\.tif is 20 x 31 pixels but its image 20 x 30",
    ),
    "fractions": (
        {"a": squares((2, 2)), "b": squares((2, 2)) / np.float32(2)},
        r"b\.tif holds fractions; a label map holds integers",
    ),
    "negative ids": (
        {"a": squares((2, 2)), "b": -squares((2, 2)).astype(np.int32)},
        r"b\.tif holds ids outside 0 to",
    ),
    "an empty folder": ({}, "holds no annotation"),
    "nowhere": (None, "does not exist; give the folder or file of the annotations"),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_prediction_that_cannot_be_scored_ends_in_one_sentence(tmp_path, name):
    labels, message = INVALID[name]
    save(tmp_path / "truth", a=squares((2, 2)), b=squares((2, 2), (10, 10)))
    if labels is not None:
        save(tmp_path / "p", **labels)
    with pytest.raises(InputError, match=message) as error:
        scored(tmp_path / "truth", tmp_path / "p")
    assert "\n" not in str(error.value)


def test_ids_that_wrapped_are_noticed_in_files(tmp_path):
    save(tmp_path / "truth", a=np.zeros((256, 257), np.uint16))
    save(tmp_path / "p", a=every_id)
    with pytest.raises(InputError, match=r"a\.tif uses every id of uint16, and id 1 twice"):
        scored(tmp_path / "truth", tmp_path / "p")


def test_other_classes_are_refused_and_ambiguous_sizes_too(tmp_path):
    truth = drawn(0, 3)
    path = write_dataset("coco", tmp_path / "truth", truth, CLASSES)
    other = write_dataset("coco", tmp_path / "p", truth, ("background", "round", "long"))
    with pytest.raises(InputError, match="has the class 'long', but the truth has round, flat: give"):
        scored(path, other)
    outlines = write_dataset("qupath", tmp_path / "outlines", truth, CLASSES)
    with pytest.raises(InputError, match="plate/0 does not state the size of its image: give --images"):
        scored(outlines, path)


def test_what_is_unusual_is_stated(tmp_path):
    two = squares((2, 2), (10, 10)) > 0
    save(tmp_path / "truth", a=squares((2, 2), (10, 10)))
    save(tmp_path / "p", a=two.astype(np.uint8) * 255, c=squares((2, 2)))
    report = scored(tmp_path / "truth", tmp_path / "p")
    warnings = " ".join(report.warnings)
    assert "predictions that are not scored, as the truth has no such image: c" in warnings
    assert "holds one id in several parts" in warnings
    assert report.scores["p"].ap[0.55] == 0
    separated = scored(tmp_path / "truth", tmp_path / "p", prediction_format="binary")
    assert separated.scores["p"].pq == 1


def write_coco(path, *annotations):
    """One image of 20 x 30 pixels; annotations are a polygon's (x0, y0, x1, y1) and further fields."""
    entries = []
    for index, ((x0, y0, x1, y1), fields) in enumerate(annotations, start=1):
        polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
        entries.append({"id": index, "image_id": 1, "category_id": 1, "segmentation": [polygon]} | fields)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": entries,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_pixels_to_ignore_and_hidden_outlines(tmp_path):
    crowd = ((15, 0, 30, 20), {"iscrowd": 1})
    truth = write_coco(tmp_path / "truth.json", ((2, 2, 6, 6), {}), crowd)
    prediction = save(tmp_path / "p", a=squares((2, 2), (10, 20)))
    scores = scored(truth, prediction).scores["p"]
    assert (scores.pq, scores.n_pred) == (1, 1)
    # A prediction has a class everywhere.
    report = scored(truth, write_coco(tmp_path / "crowd.json", ((2, 2, 6, 6), {}), crowd))
    assert report.scores["crowd.json"].pq == 1
    assert "regions to ignore, which count as background in a prediction: a" in " ".join(report.warnings)
    report = scored(prediction, write_coco(tmp_path / "crowd.json", ((2, 2, 6, 6), {}), crowd))
    assert report.scores["crowd.json"].n_pred == 1
    both = write_coco(tmp_path / "hidden.json", ((2, 2, 6, 6), {}), ((2, 2, 6, 6), {}))
    report = scored(truth, both)
    assert "outlines that cover no pixel or are covered by others, which are not scored: a" in " ".join(
        report.warnings
    )


def test_invalid_outlines_and_altered_ids_are_refused(tmp_path):
    truth = write_coco(tmp_path / "truth.json", ((2, 2, 6, 6), {}))
    invalid = write_coco(tmp_path / "invalid.json", ((2, 2, 6, 6), {"segmentation": []}), ((2, 2, 6, 6), {}))
    with pytest.raises(InputError, match="annotation 1: segmentation is missing or empty"):
        scored(truth, invalid)
    (tmp_path / "p").mkdir()
    Image.fromarray(squares((2, 2)).astype(np.uint8)).save(tmp_path / "p" / "a.jpg")
    with pytest.raises(InputError, match="a is a JPEG, which alters ids"):
        scored(truth, tmp_path / "p")


def test_images_with_equal_names_in_the_report_are_refused(tmp_path):
    for folder in ("truth", "predicted"):
        save(tmp_path / folder, a_b=squares((2, 2)))
        save(tmp_path / folder / "a", b=squares((2, 2)))
    with pytest.raises(InputError, match=r"a.b and a.b, whose names are equal in the report"):
        scored(tmp_path / "truth", tmp_path / "predicted")


def test_images_without_cells_are_scored(tmp_path):
    save(tmp_path / "truth", a=squares(), b=squares())
    save(tmp_path / "p", a=squares(), b=squares((2, 2)))
    report = scored(tmp_path / "truth", tmp_path / "p")
    assert report.scores["p"].ap[0.5] == 0
    assert math.isnan(report.evaluations["p"].per_image["a"].ap[0.5])
    empty = scored(tmp_path / "truth", save(tmp_path / "q", a=squares(), b=squares()))
    assert math.isnan(empty.scores["q"].pq)


def test_methods_segment_the_images_of_the_truth(tmp_path):
    truth = np.zeros((64, 64), np.uint16)
    truth[8:28, 8:28], truth[36:60, 30:50] = 1, 2
    save(tmp_path / "truth", a=truth)
    save(tmp_path / "images", a=(200 * (truth > 0)).astype(np.uint8))
    files = Files(str(tmp_path / "truth"), images=str(tmp_path / "images"))
    report = compare(["watershed", str(tmp_path / "truth")], files, "test", Memory(tmp_path))
    assert list(report.scores) == ["watershed", "truth"]
    assert report.scores["watershed"].ap[0.5] == 1
    assert report.scores["watershed"].pq < 1
    assert report.scores["truth"].pq == 1


def write_three(tmp_path):
    truth = {name: squares((2, 2), (10, 10), (10, 20)) for name in "abcd"}
    save(tmp_path / "truth", **truth)
    save(tmp_path / "half", **{name: squares((2, 2), (10, 10)) for name in "abcd"})
    save(tmp_path / "all", **truth)
    return [tmp_path / name for name in ("truth", "half", "all")]


def test_programs_are_compared_with_the_first_one_by_group(tmp_path):
    paths = write_three(tmp_path)
    (tmp_path / "table.csv").write_text("image,patient\na,p\nb,p\nc,q\nd,q\n")
    report = scored(*paths, metadata=str(tmp_path / "table.csv"))
    assert list(report.scores) == ["half", "all"]
    content = report.as_dict()["uncertainty"]
    assert content["options"] == {"unit": "group", "units": 2, "level": 0.95, "resamples": 2000}
    assert content["baseline"] == "half"
    assert content["differences"]["all"]["AP 0.5"]["value"] == pytest.approx(1 / 3)
    assert content["differences"]["all"]["AP 0.5"]["is_clear"]


def test_a_table_may_name_the_files_of_the_images(tmp_path):
    paths = write_three(tmp_path)
    save(tmp_path / "images", **{name: np.zeros((20, 30), np.uint8) for name in "abcd"})
    (tmp_path / "table.csv").write_text("image,patient\na.tif,p\nb.tif,p\nc.tif,q\nd.tif,q\n")
    files = {"images": str(tmp_path / "images"), "metadata": str(tmp_path / "table.csv")}
    report = scored(*paths, **files)
    assert [image.group for image in report.scores["all"].statistics.images] == ["p", "p", "q", "q"]


def test_scores_and_report_are_written_with_the_images(tmp_path):
    paths = write_three(tmp_path)
    (tmp_path / "images").mkdir()
    for name in "abcd":
        Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(tmp_path / "images" / f"{name}.png")
    files = Files(str(paths[0]), (str(paths[1]),), images=str(tmp_path / "images"))
    text = compare_and_write(
        [str(paths[2])], files, "test", out=tmp_path / "report", json=tmp_path / "scores" / "s.json"
    )
    assert "half - all: AP 0.5 -0.333" in text
    written = json.loads((tmp_path / "scores" / "s.json").read_text())
    assert written == json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert len(written["truth_sha256"]) == 64
    commit = environment.commit().get("commit")
    assert written["environment"].get("commit") == commit
    assert commit is None or re.search(r"[0-9a-f]{40}(-dirty)?$", commit)
    assert (tmp_path / "report" / "index.html").exists()
    alone = compare_and_write([], files, "test", out=None, json=tmp_path / "s.json")
    assert alone.endswith(f"scores: {tmp_path / 's.json'}")


@pytest.mark.parametrize(
    ("paths", "files", "message"),
    [
        (["p"], Files(), "give --truth=FOLDER, or the folder of a run"),
        (["truth", "truth"], Files("truth"), "truth occurs twice"),
        (["q"], Files("truth"), "q segments images: give --images=FOLDER beside --truth"),
        (["q"], Files("truth", images="pictures"), "q is neither the folder of a run"),
        (["p"], Files("truth", images="images"), "holds no image of a, which --truth="),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, monkeypatch, paths, files, message):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "truth", a=squares((2, 2)))
    save(tmp_path / "p", a=squares((2, 2)))
    save(tmp_path / "images", b=squares((2, 2)))
    save(tmp_path / "pictures", a=squares((2, 2)))
    with pytest.raises(InputError, match=message):
        compare(paths, files, "test", Memory(tmp_path))
