"""Files of any content end in one sentence that names the file; nothing in them is executed or imported."""

import csv
import json
import os
import sys
import types

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from segjax.classical import classifier
from segjax.configs import semantic
from segjax.datasets.sources import FolderSource
from segjax.errors import InputError
from segjax.experiment import decoder_fit
from segjax.experiment.evaluation import _training_curve
from segjax.experiment.finished_images import Finished, FinishedImages
from segjax.experiment.prepare_folder import Request, prepare_folder
from segjax.experiment.setup import make_task, read_run
from segjax.experiment.workdir import ModelMetadata, check_config, write_config, write_metadata
from segjax.inference.tables import write_table
from segjax.models.weights.readers import read_checkpoint
from segjax.report.evaluation_charts import training_charts
from segjax.tasks import rcnn_svm
from segjax.train.log import Log, read_log
from tests.situations.conftest import cells, write_cells

METADATA = ModelMetadata(("background", "nucleus", "bright body"), 1)

# What no file of segjax contains.
CONTENTS = {
    "empty": b"",
    "space": b" \n",
    "null": b"null",
    "a number": b"3",
    "infinite": b"1e400",
    "a text": b'"config"',
    "a list": b"[]",
    "a list of objects": b'[{"step": 1}]',
    "an empty object": b"{}",
    "an object of another program": b'{"name": "segjax", "version": 1}',
    "cut off": b'{"seed": 0, "steps"',
    "two objects": b"{} {}",
    "a comment": b"// {}\n{}",
    "single quotes": b"{'seed': 0}",
    "a trailing comma": b'{"seed": 0,}',
    "binary": b"\xff\xfe\x00\x01",
    "zeros": bytes(1000),
    "UTF-16": '{"seed": 0}'.encode("utf-16"),
    "a pickle": b"cos\nsystem\n(S'true'\ntR.",
    "YAML": b"seed: 0\nsteps: 1\n",
    "nested 100,000 deep": b'{"a":' * 100_000,
    "lists 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "a number of 10,000 digits": b'{"seed": ' + b"9" * 10_000 + b"}",
    "a lone surrogate": b'{"\\ud800": "\\udfff"}',
    "an empty name": b'{"": {}}',
    "names with dots": b'{"data.scale": 1.0}',
    "names of attributes": b'{"__class__": {}, "to_json": 1, "_fields": {}, "items": []}',
}


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


FILES = {name: lambda path, content=content: path.write_bytes(content) for name, content in CONTENTS.items()}
FILES |= {"a folder": a_folder, "a pipe": a_pipe}


@pytest.fixture
def run(tmp_path):
    write_config(tmp_path, semantic.get_config("dataset=synthetic"))
    write_metadata(tmp_path, METADATA)
    return tmp_path


def is_one_sentence(error, path):
    message = str(error.value)
    return str(path) in message and "\n" not in message.strip() and len(message) < 600


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
@pytest.mark.parametrize("name", ["config.json", "model.json"])
def test_a_run_with_any_file_ends_in_one_sentence(run, name, write):
    assert read_run(run)[1] == METADATA
    write(run / name)
    with pytest.raises(InputError) as error:
        read_run(run)
    assert is_one_sentence(error, run / name)


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
def test_a_training_in_a_folder_with_any_config_ends_in_one_sentence(run, write):
    config = semantic.get_config("dataset=synthetic")
    check_config(run, config)
    write(run / "config.json")
    with pytest.raises(InputError) as error:
        check_config(run, config)
    assert is_one_sentence(error, run)


def changed(path, field, value):
    content = json.loads(path.read_text())
    section, _, last = field.rpartition(".")
    part = content
    for key in section.split(".") if section else ():
        part = part[key]
    part[last] = value
    path.write_text(json.dumps(content))


FIELDS = [
    ("config.json", "seed", None),
    ("config.json", "seed", "0"),
    ("config.json", "data", []),
    ("config.json", "data", 3),
    ("config.json", "data.scale", "large"),
    ("config.json", "data.scale", 1e308),
    ("config.json", "data.patch_size", 10**30),
    ("config.json", "data.percentiles", [1]),
    ("config.json", "data.stain", {"a": 1}),
    ("config.json", "dataset.name", ["synthetic"]),
    ("config.json", "dataset.test", None),
    ("config.json", "task.name", ["semantic"]),
    ("config.json", "task.losses", []),
    ("config.json", "task.losses", {"dice": "all"}),
    ("config.json", "task.decoder", None),
    ("config.json", "task.decoder.h", "deep"),
    ("config.json", "task.min_area", "20"),
    ("config.json", "model", "vgg16"),
    ("config.json", "model.encoder", None),
    ("config.json", "model.width", -1),
    ("config.json", "model.norm", {}),
    ("config.json", "predict.tile", "512"),
    ("config.json", "predict.checkpoint", 3),
    ("config.json", "predict.overlap", None),
    ("config.json", "reference", {"name": "os.system"}),
    ("config.json", "reference.name", []),
    ("config.json", "proposals", {"method": 1}),
    ("model.json", "class_names", "abc"),
    ("model.json", "class_names", ["background"]),
    ("model.json", "class_names", ["background", "a", "a"]),
    ("model.json", "class_names", [["background"], 1]),
    ("model.json", "class_names", {"background": 0}),
    ("model.json", "channels", None),
    ("model.json", "channels", 0),
    ("model.json", "channels", 1.5),
    ("model.json", "channels", True),
]


@pytest.mark.parametrize(("name", "field", "value"), FIELDS, ids=[f"{row[1]}={row[2]}" for row in FIELDS])
def test_a_field_of_any_kind_is_named_with_its_file(run, name, field, value):
    changed(run / name, field, value)
    with pytest.raises(InputError, match=field.partition(".")[0]) as error:
        make_task(*read_run(run))
    assert is_one_sentence(error, run / name)


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
def test_any_file_in_place_of_a_decoder_is_named(run, write):
    path = run / decoder_fit.FILE
    path.touch()
    write(path)
    with pytest.raises(InputError) as error:
        decoder_fit.load(run)
    assert is_one_sentence(error, path)


SETTINGS = {
    "no object": [1],
    "an unknown name": {"decoder.depth": 3},
    "a name of Python": {"__class__": 1},
    "a name of Python in a section": {"decoder.__class__.__init__": 1},
    "an empty name": {"": 1},
    "an empty part": {"decoder..h": 1},
    "another type": {"decoder.h": "high"},
    "an object": {"decoder.h": {}},
    "a section": {"decoder": 3},
    "not a number": {"decoder.h": float("nan")},
    "out of range": {"min_fraction": 7},
    "null": {"min_area": None},
    "too many values": {"min_area": [1, 2, 3, 4, 5]},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_settings_of_a_decoder_of_any_kind_are_named(run, settings):
    fit = {"step": 4, "settings": settings, "score": 0.5, "before": 0.4, "tried": []}
    (run / decoder_fit.FILE).write_text(json.dumps(fit))
    task = make_task(*read_run(run))
    with pytest.raises(InputError) as error:
        decoder_fit.fitted_task(task, run, 4, {})
    assert is_one_sentence(error, run / decoder_fit.FILE)


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
def test_any_file_in_place_of_a_classifier_is_named(tmp_path, write):
    path = tmp_path / "classifier.json"
    path.touch()
    write(path)
    with pytest.raises(InputError) as error:
        classifier.load(path)
    assert is_one_sentence(error, path)


CLASSIFIERS = [
    ("kind", None),
    ("descriptors", 3),
    ("descriptors", None),
    ("class_names", 3),
    ("class_names", [1, 2, 3]),
    ("classes", 1),
    ("classes", [[1], [2]]),
    ("classes", [10**30]),
    ("classes", ["1", "x"]),
    ("classes", [7, 8]),
    ("mean", None),
    ("mean", {"a": 1}),
    ("scale", [0.0] * len(classifier.DESCRIPTORS)),
    ("weights", [[1, 2], [3]]),
    ("bias", ["NaN", "Infinity"]),
]


@pytest.mark.parametrize(("field", "value"), CLASSIFIERS)
def test_a_field_of_a_classifier_of_any_kind_is_named(tmp_path, field, value):
    count = len(classifier.DESCRIPTORS)
    path = tmp_path / "classifier.json"
    classifier.InstanceClassifier(
        METADATA.class_names,
        np.array([1, 2], np.int32),
        np.zeros(count),
        np.ones(count),
        np.zeros((count, 2)),
        np.zeros(2),
    ).save(path)
    classifier.load(path)
    changed(path, field, value)
    with pytest.raises(InputError) as error:
        classifier.load(path)
    assert is_one_sentence(error, path)


LINES = {
    **{name: content.replace(b"\n", b" ") for name, content in CONTENTS.items()},
    "a step that is true": b'{"step": true, "train/loss": 1.0}',
    "a step below 0": b'{"step": -1, "train/loss": 1.0}',
    "a step of 400 digits": b'{"step": ' + b"9" * 400 + b', "train/loss": 1.0}',
    "a step that is a text": b'{"step": "3", "train/loss": 1.0}',
    "a loss that is a text": b'{"step": 3, "train/loss": "low"}',
    "a loss that is a list": b'{"step": 3, "train/loss": [1]}',
    "a loss that is an object": b'{"step": 3, "train/loss": {"value": 1}}',
    "a loss that is not a number": b'{"step": 3, "train/loss": NaN}',
    "a loss of 400 digits": b'{"step": 3, "train/loss": ' + b"9" * 400 + b"}",
    "a name that is a script": b'{"step": 3, "train/loss": 1, "train/<script>": "x"}',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_any_line_of_a_log_costs_that_line_only(tmp_path, line):
    log = Log(tmp_path, start=0)
    log.write(1, {"train": {"loss": 0.5}})
    log.close()
    path = tmp_path / "log.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    curve = _training_curve(tmp_path)
    assert {"step": 1, "loss": 0.5} in curve
    assert [chart.name for chart in training_charts(curve)] == ["loss"]
    resumed = Log(tmp_path, start=1)  # a run that goes on
    resumed.close()
    assert {"step": 1, "train/loss": 0.5} in read_log(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, bytes(8), b"\x08" + bytes(7) + b"{}      "])
def test_any_file_in_place_of_svms_is_named(tmp_path, content):
    (tmp_path / rcnn_svm.FILE).write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        rcnn_svm.load({}, tmp_path, 4)


@pytest.mark.parametrize("metadata", [None, {"step": "four"}, {"step": "4"}])
def test_svms_without_a_layer_are_damaged(tmp_path, metadata):
    save_file({"logits/kernel": np.zeros(3, np.float32)}, tmp_path / rcnn_svm.FILE, metadata=metadata)
    with pytest.raises(InputError, match="is damaged"):
        rcnn_svm.load({}, tmp_path, 4)


def test_a_finished_image_of_any_kind_counts_as_not_finished(tmp_path):
    images = FinishedImages(tmp_path)
    images.write("sound", Finished("digest", 0, (4, 5), None, {}, None))
    assert images.read("sound") == Finished("digest", 0, (4, 5), None, {}, None)
    for broken in (
        {"instances": "many"},
        {"instances": -1},
        {"shape": (3,)},
        {"shape": ("a", "b")},
        {"exports": [1]},
    ):
        images.write("broken", Finished("digest", 0, (4, 5), None, {}, None)._replace(**broken))
        assert images.read("broken") is None, broken


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a prepared data set."""
    folder = tmp_path_factory.mktemp("data")
    write_cells(folder / "images")
    (folder / "masks").mkdir()
    for index in range(6):
        Image.fromarray(cells(index)[1]).save(folder / "masks" / f"cell{index}.png")
    request = Request(images=str(folder / "images"), masks=str(folder / "masks"), out=str(folder / "out"))
    prepare_folder(request, workers=0, previews=False)
    return folder / "out"


FEATURES = {
    "a class": lambda content: content | {"type": "hostile.Feature"},
    "a nested class": lambda content: {
        **content,
        "content": {"features": {"name": {"pythonClassName": "hostile.Feature", "text": {}}}},
    },
    "a class in the other spelling": lambda content: {
        "python_class_name": "hostile.Feature",
        "features_dict": {"features": {}},
    },
    "no text": lambda content: content | {"type": ["hostile.Feature"]},
}


@pytest.mark.parametrize("change", FEATURES.values(), ids=FEATURES)
def test_features_name_no_module_to_import(prepared, tmp_path, monkeypatch, change):
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(FolderSource("train", data_dir=prepared)) > 0
    (path,) = prepared.rglob("features.json")
    before = path.read_text()
    try:
        path.write_text(json.dumps(change(json.loads(before))))
        with pytest.raises(InputError, match=r"features\.json names .*hostile"):
            FolderSource("train", data_dir=prepared)
    finally:
        path.write_text(before)
    assert "hostile" not in sys.modules


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
@pytest.mark.parametrize("name", ["features.json", "metadata.json", "dataset_info.json"])
def test_any_file_of_a_data_set_ends_in_one_sentence(prepared, name, write):
    (path,) = prepared.rglob(name)
    before = path.read_bytes()
    try:
        write(path)
        with pytest.raises(InputError, match=r"the prepared data in .* are damaged"):
            FolderSource("train", data_dir=prepared)
    finally:
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(before)


VERSIONS = {"1.13.1": False, "2.5.1+cpu": False, "2.6.0": True, "2.10.0": True, "3.0": True}


@pytest.mark.parametrize(("version", "is_read"), VERSIONS.items())
def test_torch_that_executes_code_is_not_used(tmp_path, monkeypatch, version, is_read):
    class Tensor(np.ndarray):
        def is_floating_point(self):
            return False

        def numpy(self):
            return np.asarray(self)

    calls = []

    def load(path, **options):
        calls.append(options["weights_only"])
        return {"kernel": np.zeros(3).view(Tensor)}

    fake = types.SimpleNamespace(__version__=version, load=load, Tensor=Tensor)
    monkeypatch.setitem(sys.modules, "torch", fake)
    (tmp_path / "weights.pth").write_bytes(b"weights")
    if is_read:
        assert [*read_checkpoint(tmp_path / "weights.pth")] == ["kernel"]
        assert calls == [True]
    else:
        with pytest.raises(InputError, match=r"install torch 2\.6 or later, or convert the file"):
            read_checkpoint(tmp_path / "weights.pth")
        assert calls == []


# A cell, and what a spreadsheet gets.
CELLS = [
    ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
    ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
    ("-2+3", "'-2+3"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'\t=1"),
    ("-control.png", "'-control.png"),
    ("-12", "-12"),
    ("+1.5e-3", "+1.5e-3"),
    ("cell-1=2.png", "cell-1=2.png"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), CELLS)
def test_tables_hold_no_formula(tmp_path, text, expected):
    columns = {"image": np.array([text, "b"]), "delta": np.array([-1.5, 2.0])}
    write_table([columns], tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [expected, "b"]
    assert [float(row["delta"]) for row in rows] == [-1.5, 2.0]
