import json
import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tifffile
from ml_collections import ConfigDict
from PIL import Image
from pyarrow import parquet

from segjax.classical.classifier import fit
from segjax.configs import classical, semantic
from segjax.datasets.catalog import DATASETS, open_source
from segjax.datasets.folder.builder import Folder
from segjax.datasets.store.builder import prepare
from segjax.datasets.synthetic import SyntheticSource
from segjax.errors import InputError
from segjax.experiment import decoder_fit, training
from segjax.experiment.decoder_fit import DecoderFit
from segjax.experiment.evaluation import evaluate_classical, evaluate_workdir
from segjax.experiment.evaluation_compare import Files, compare
from segjax.experiment.export_formats import STANDARD, Exports
from segjax.experiment.leaks import data_digests
from segjax.experiment.methods import open_run
from segjax.experiment.prediction import predict
from segjax.experiment.prediction_methods import select_method
from segjax.experiment.pretrained import export_run
from segjax.experiment.remembering import Memory
from segjax.experiment.setup import open_split
from segjax.experiment.training import train
from segjax.experiment.workdir import check_config, lock_workdir, read_config, read_metadata
from segjax.inference.exports.label_images import label_image, write_tiff
from segjax.models.weights.network import load_network
from segjax.train.checkpoint_files import CheckpointReader, write_validation
from segjax.train.log import read_log
from segjax.train.state import fingerprint
from tests.datasets.folder.test_builder import staged  # noqa: F401 - a fixture
from tests.experiment.tiny import shrink


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: its config, folder, result and the table it printed."""
    workdir = tmp_path_factory.mktemp("run")
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.dataset.validation, config.dataset.test = "validation[:1]", "test[:2]"
    result = train(config, workdir)
    return config, workdir, result, evaluate_workdir(workdir, "test", seconds=result.seconds)


def test_table_metrics_and_report_agree(run):
    _, workdir, _, table = run
    metrics = json.loads((workdir / "report" / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert set(metrics["methods"]) == {"model", "reference"}
    assert metrics["seconds"]["train"] > 0
    assert metrics["seconds"]["evaluate"] > 0
    page = (workdir / "report" / "index.html").read_text()
    for scores in metrics["methods"].values():
        assert set(scores) >= {"iou", "ap", "pq", "aji"}
        assert set(scores["iou"]) == {"background", "nucleus", "bright body"}
        for value in (scores["iou"]["nucleus"], scores["ap"]["0.5"], scores["pq"], scores["aji"]):
            assert f"{value:.3f}" in table
            assert f"{value:.3f}" in page
    assert len(metrics["per_image"]["model"]) == 2


def test_the_same_command_again_changes_nothing(run):
    config, workdir, result, _ = run
    again = train(config, workdir)
    assert fingerprint(again.state) == fingerprint(result.state)


def test_another_split_is_reported_beside_it(run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(run[1], workdir)
    reader = CheckpointReader(workdir / "checkpoints")
    first, last = reader.steps()
    write_validation(reader.folder / str(first), 1.0, reader.progress(first))
    assert reader.best() == first
    evaluate_workdir(workdir, "validation")
    metrics = json.loads((workdir / "report_validation" / "metrics.json").read_text())
    assert metrics["split"] == "validation"
    # That of the last checkpoint, also if another one is the best.
    assert metrics["step"] == first
    assert metrics["seconds"]["train"] == reader.progress(last)["seconds"] > reader.progress(first)["seconds"]
    with pytest.raises(InputError, match="train, validation, test"):
        evaluate_workdir(workdir, "holdout")


def test_runs_and_predictions_of_a_program_are_compared_on_the_same_images(run, tmp_path):
    config, workdir, _, _ = run
    (tmp_path / "program").mkdir()
    source = open_split(config, "test")
    for record in (source[index] for index in range(len(source))):
        write_tiff(label_image(record.truth), tmp_path / "program" / f"{record.name}.tif")
    report = compare([str(workdir), str(tmp_path / "program")], Files(), "test", Memory(tmp_path))
    model, program = report.scores.values()
    # The program has no classes, so that both are compared in one class.
    assert (program.pq, list(program.per_class)) == (1, ["cell"])
    assert report.uncertainty.baseline == workdir.name
    assert report.uncertainty.differences["program"]["PQ"].value == pytest.approx(1 - model.pq)
    metrics = json.loads((workdir / "report" / "metrics.json").read_text())
    assert model.all.pq == metrics["methods"]["model"]["all"]["pq"]
    shutil.copytree(workdir, tmp_path / "other")
    changed = json.loads((workdir / "config.json").read_text())
    changed["dataset"]["test"] = "test[:1]"
    (tmp_path / "other" / "config.json").write_text(json.dumps(changed))
    changed["dataset"]["headline"] = "bright body"
    (tmp_path / "other" / "config.json").write_text(json.dumps(changed))
    # A class that only the truth has cannot be the headline, and an exported network is no prediction.
    export_run(workdir, tmp_path / "network.safetensors")
    paths = [tmp_path / "other", tmp_path / "program", tmp_path / "network.safetensors"]
    scores = compare([*map(str, paths)], Files(), "test", Memory(tmp_path)).scores
    assert scores["other"].pq == scores["network.safetensors"].pq
    assert list(scores["other"].per_class) == ["cell"]
    with pytest.raises(InputError, match="their scores cannot be compared"):
        compare([str(workdir), str(tmp_path / "other")], Files(), "test", Memory(tmp_path))


def write_folder(out, staged, splits):  # noqa: F811
    """Prepares data with the classes of the run."""
    staging, items = staged
    chosen = {split: [items[index] for index in indices] for split, indices in splits.items()}
    names = open_source("synthetic", "test").class_names
    prepare(Folder, out, staging=staging, splits=chosen, class_names=names, about={"leaks": []})


def trained_on(run, workdir, data_dir, **digests):
    """Copies the run as if it had been trained on prepared data; `digests` replace those of the data."""
    shutil.copytree(run[1], workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["dataset"] |= {"name": "folder", "data_dir": str(data_dir), "validation": "test", "test": "test"}
    (workdir / "config.json").write_text(json.dumps(config))
    config = read_config(workdir)
    data = data_digests({split: open_split(config, split) for split in ("train", "validation")})
    reader = CheckpointReader(workdir / "checkpoints")
    step = reader.steps()[-1]
    progress = reader.progress(step) | {"run_metadata": data | digests}
    write_validation(reader.folder / str(step), 1.0, progress)
    return workdir


OTHER = "was trained on other images than the training split of folder has now"


def test_the_report_says_that_the_training_images_have_changed(run, tmp_path, staged, caplog):  # noqa: F811
    write_folder(tmp_path / "data", staged, {"train": range(4), "test": (4, 5)})
    workdir = trained_on(run, tmp_path / "run", tmp_path / "data")

    def page():
        caplog.clear()
        evaluate_workdir(workdir, "test")
        text = (workdir / "report" / "index.html").read_text()
        assert (OTHER in text) == (OTHER in caplog.text)
        return text

    assert OTHER not in page()
    # Neither other images for the test, nor another place change what the run was trained on.
    (tmp_path / "data").rename(tmp_path / "first")
    write_folder(tmp_path / "data", staged, {"train": range(4), "test": (5,)})
    assert OTHER not in page()
    shutil.rmtree(tmp_path / "data")
    write_folder(tmp_path / "data", staged, {"train": (0, 1, 4, 5), "test": (2, 3)})
    assert OTHER in page()
    report = compare([str(workdir)], Files(), "test", Memory(tmp_path))
    assert [OTHER in warning for warning in report.warnings] == [True]


def test_the_report_says_that_runs_were_trained_on_other_images(run, tmp_path, staged, caplog):  # noqa: F811
    write_folder(tmp_path / "data", staged, {"train": range(4), "test": (4, 5)})
    write_folder(tmp_path / "other data", staged, {"train": (2, 3, 4, 5), "test": (0, 1)})
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    first, moved, other = (
        str(trained_on(run, tmp_path / f"run on {name}", tmp_path / name))
        for name in ("data", "moved", "other data")
    )
    shutil.rmtree(tmp_path / "moved")
    report = compare([first, moved], Files(), "test", Memory(tmp_path))
    assert (len(report.scores), report.warnings) == (2, [])
    corrected = str(trained_on(run, tmp_path / "corrected", tmp_path / "data", train_files_sha256="ab"))
    (warning,) = compare([first, corrected], Files(), "test", Memory(tmp_path)).warnings
    assert "corrected was trained on other images or annotations of the same names than" in warning
    report = compare([first, other], Files(), "test", Memory(tmp_path))
    (warning,) = report.warnings
    assert f"{other} was trained on other images than {first}. Both are scored" in warning
    assert warning in caplog.text
    # All are scored on the images of the first one.
    assert len({scores.pq for scores in report.scores.values()}) == 1


def test_the_report_says_that_tiles_are_below_the_training_patch(run, tmp_path):
    _, workdir, _, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["patch_size"] = 256
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    evaluate_workdir(tmp_path / "run", "validation")
    page = (tmp_path / "run" / "report_validation" / "index.html").read_text()
    assert "config.predict.tile=128 is below config.data.patch_size=256" in page
    assert "is below" not in (workdir / "report" / "index.html").read_text()


def test_a_folder_of_images_is_segmented(run, tmp_path):
    _, workdir, _, _ = run
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    rng = np.random.default_rng(0)
    tifffile.imwrite(images / "deep.tif", rng.integers(0, 2**16, (40, 70), np.uint16))
    Image.fromarray(rng.integers(0, 256, (30, 30), np.uint8)).save(images / "grey.png")
    grey = np.repeat(rng.integers(0, 256, (33, 50, 1), np.uint8), 3, -1)
    Image.fromarray(grey).save(images / "grey as colour.png")
    done = dict(predict(select_method([workdir]), images, out))
    again = predict(select_method([workdir]), images, out)
    assert dict(again) == done
    assert "(3 of them finished before)" in again.summary
    assert sorted(path.name for path in done) == ["deep.tif", "grey as colour.png", "grey.png"]
    # The mean of two equal runs is one of them.
    shutil.copytree(workdir, tmp_path / "copy")
    both = select_method([workdir, tmp_path / "copy"])
    exports = Exports(("labels", "uncertainty"))
    assert dict(predict(both, images, tmp_path / "both", exports=exports)) == done
    for path, count in done.items():
        labels = tifffile.imread(out / f"{path.stem}_labels.tif")
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"both/{path.stem}_labels.tif"), labels)
        uncertainty = tifffile.imread(tmp_path / f"both/{path.stem}_uncertainty.tif")
        assert uncertainty.shape == labels.shape
        assert 0 < uncertainty.mean() <= 1
        assert labels.max(initial=0) == count
        assert tifffile.imread(out / f"{path.stem}_classes.tif").shape == labels.shape
        with Image.open(out / f"{path.stem}_overlay.png") as picture:
            assert picture.size[0] >= labels.shape[1]


def test_an_image_that_cannot_be_read_loses_none_of_the_others(tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    (images / "a.png").write_bytes(b"no image")
    tifffile.imwrite(images / "b.tif", np.full((8, 8), np.nan, np.float32))
    Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(images / "c.png")
    chosen = select_method(config=classical.get_config("dataset=synthetic"))
    with pytest.raises(InputError, match=r"2 of 3 images.*a\.png"):
        list(predict(chosen, images, out))
    assert (out / "c_labels.tif").exists()


def test_a_method_without_weights_is_evaluated_like_any_other(tmp_path):
    config = classical.get_config("method=watershed,dataset=synthetic")
    config.methods.radius = ConfigDict()
    config.dataset.train, config.dataset.test = "train[:5]", "test[:2]"
    table = evaluate_classical(config, "test", tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["methods"]) == {"watershed", "radius", "reference"}
    assert f"{metrics['methods']['watershed']['iou']['nucleus']:.3f}" in table
    assert metrics["methods"]["watershed"]["iou"]["nucleus"] > 0.6
    # The reference knows one class; the classifier tells two apart.
    assert metrics["methods"]["reference"]["iou"]["bright body"] == 0
    assert metrics["methods"]["watershed"]["iou"]["bright body"] > 0.3
    page = (tmp_path / "index.html").read_text()
    assert page.count("radius: foreground") == 1
    assert " seeds" in page
    _predicts_with_its_classifier(tmp_path)


def _predicts_with_its_classifier(folder):
    image = open_source("synthetic", "test")[0].image
    (folder / "images").mkdir()
    tifffile.imwrite(folder / "images" / "cells.tif", image)
    config = classical.get_config("method=watershed,dataset=synthetic")
    config.classifier.file = str(folder / "classifier_watershed.json")
    out = folder / "out"
    counts = dict(
        predict(
            select_method(config=config), folder / "images", out, exports=Exports((*STANDARD, "csv"), 0.5)
        )
    )
    table = parquet.read_table(out / "measurements.parquet").to_pydict()
    assert len(table["id"]) == next(iter(counts.values()))
    assert set(table["class_name"]) == {"nucleus", "bright body"}
    assert table["image"][0] == "cells.tif"
    labels = tifffile.imread(out / "cells_labels.tif")
    assert table["area_px"] == np.bincount(labels.ravel())[1:].tolist()
    assert table["area_um2"][0] == table["area_px"][0] / 4
    assert (out / "cells_measurements.csv").read_text().count("\n") == len(table["id"]) + 1


def test_the_reference_knows_classes_that_are_not_selected(tmp_path):
    config = classical.get_config("dataset=synthetic")
    config.dataset.test, config.dataset.classes = "test[:1]", ("background", "nucleus")
    # Small instances have the second class of the data.
    config.reference.small_fraction = config.methods.watershed.small_fraction = 0.5
    evaluate_classical(config, "test", tmp_path)
    scores = json.loads((tmp_path / "metrics.json").read_text())["methods"]
    assert 0 < scores["reference"]["n_pred"] < scores["watershed"]["n_pred"]


@pytest.mark.parametrize("kinds", [1, 2])
def test_the_reference_of_other_data_gives_small_instances_a_class_that_exists(tmp_path, monkeypatch, kinds):
    monkeypatch.setitem(DATASETS, "synthetic", partial(SyntheticSource, kinds=kinds))
    config = classical.get_config("method=watershed,dataset=mnfinder")
    config.dataset.update(name="synthetic", headline=None, test="test[:1]")
    config.classifier.fit = False
    # That of MNFinder, with more small instances.
    assert config.reference.small_fraction == 0.2
    config.reference.small_fraction = 0.9
    evaluate_classical(config, "test", tmp_path)
    scores = json.loads((tmp_path / "metrics.json").read_text())["methods"]["reference"]["per_class"]
    assert all(one["n_pred"] > 0 for one in scores.values())
    page = (tmp_path / "index.html").read_text()
    assert ("instances below 0.9 of the typical area the class bright body" in page) == (kinds == 2)


def test_images_of_a_mixture_may_have_equal_names(tmp_path):
    config = classical.get_config("method=watershed,dataset=synthetic")
    config.dataset.update(name="synthetic+synthetic", test="test[:2]")
    config.classifier.fit = False
    evaluate_classical(config, "test", tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["images"] == len(metrics["per_image"]["watershed"]) == 4


def test_a_classifier_of_other_classes_is_refused(tmp_path):
    config = classical.get_config("method=watershed,dataset=synthetic")
    config.dataset.test = "test[:1]"
    config.classifier.file = str(tmp_path / "other.json")
    fit([], [], class_names=("background", "nucleus")).save(config.classifier.file)
    with pytest.raises(InputError, match="classifies background, nucleus, but the data have"):
        evaluate_classical(config, "test", tmp_path)


def test_predicts_with_one_method_at_a_time():
    with pytest.raises(InputError, match="names 5 methods: choose one"):
        select_method(config=classical.get_config("method=all"))


def test_refuses_to_guess_the_method(run, tmp_path):
    config, workdir, _, _ = run
    with pytest.raises(InputError, match="--workdir=RUN"):
        select_method([workdir], config)
    with pytest.raises(InputError, match="must be trained first"):
        select_method(config=config)
    with pytest.raises(InputError, match="contains no run"):
        select_method([tmp_path])


def test_refuses_channels_it_was_not_trained_on(run, tmp_path):
    _, workdir, _, _ = run
    colour = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"colour\.png has the channels 0, 1, 2, but .* trained on 1"):
        list(predict(select_method([workdir]), tmp_path, tmp_path / "out"))


def test_refuses_images_that_would_overwrite_each_other(run, tmp_path):
    _, workdir, _, _ = run
    for ending in ("png", "tif"):
        Image.fromarray(np.eye(20, dtype=np.uint8)).save(tmp_path / f"a.{ending}")
    with pytest.raises(InputError, match="rename one"):
        list(predict(select_method([workdir]), tmp_path, tmp_path / "out"))


def changed(config, **values):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(values)
    return config


@pytest.mark.parametrize(
    "values",
    [
        {"mesh.data": 4, "mesh.fsdp": 2},
        {"train.log_every": 7, "train.checkpoint_every": 3, "train.max_consecutive_skips": 5},
        {"data.workers": 0},
        {"predict.tile": 256, "predict.flips": True, "predict.checkpoint": "latest"},
        {"dataset.data_dir": "elsewhere", "dataset.test": "test[:1]"},
        {"steps": 400},
    ],
    ids=str,
)
def test_what_changes_only_how_a_network_is_trained_may_change(run, values):
    config, workdir, _, _ = run
    check_config(workdir, changed(config, **values))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer.learning_rate", 0.5),
        ("seed", 1),
        ("model.width", 0.5),
        ("dataset.train", "train[:5]"),
        ("train.patience", 3),
        ("train.num_microbatches", 2),
        ("batch_size", 4),
        ("steps", 3),
    ],
)
def test_what_changes_the_result_is_refused_unless_it_is_accepted(run, field, value):
    config, workdir, _, _ = run
    other = changed(config, **{field: value})
    with pytest.raises(InputError, match=rf"config\.{field} was .*, is .*--accept_changes"):
        check_config(workdir, other)
    check_config(workdir, other, accept_changes=True)


def test_a_workdir_belongs_to_one_config(run):
    config, workdir, _, _ = run
    check_config(workdir, config)
    assert read_config(workdir).to_json() == config.to_json()
    assert read_metadata(workdir).class_names == ("background", "nucleus", "bright body")
    with pytest.raises(InputError, match=r"config\.optimizer\.learning_rate was 0\.001, is 0\.5"):
        train(changed(config, **{"optimizer.learning_rate": 0.5}), workdir)


def test_a_run_goes_on_with_changes_which_the_log_names(run, tmp_path):
    config, workdir, _, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    with pytest.raises(InputError, match=r"the config makes .* with the shape"):
        train(changed(config, **{"model.width": 1 / 16}), tmp_path / "run", accept_changes=True)
    assert read_config(tmp_path / "run").to_json() == config.to_json()
    other = changed(config, **{"steps": 5, "mesh.data": 4, "optimizer.learning_rate": 0.5})
    result = train(other, tmp_path / "run", accept_changes=True)
    assert int(result.state.step) == 5
    assert read_config(tmp_path / "run").to_json() == other.to_json()
    (entry,) = [entry for entry in read_log(tmp_path / "run" / "log.jsonl") if "changes" in entry]
    assert entry["step"] == 4
    assert entry["changes"] == {
        "config.steps": [4, 5],
        "config.mesh.data": [1, 4],
        "config.optimizer.learning_rate": [0.001, 0.5],
    }


def test_a_start_that_is_refused_changes_nothing(run, tmp_path, monkeypatch):
    config, workdir, _, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    names = json.loads((workdir / "model.json").read_text())
    names["class_names"][1] = "earlier name"
    (tmp_path / "run" / "model.json").write_text(json.dumps(names))

    def refuse(*_, **__):
        raise InputError("the data now have other images")

    monkeypatch.setattr(training, "resume", refuse)
    with pytest.raises(InputError, match="the data now have other images"):
        train(config, tmp_path / "run")
    assert read_metadata(tmp_path / "run").class_names[1] == "earlier name"


def test_a_run_resumes_without_the_weights_that_it_began_with(run, tmp_path):
    config, workdir, result, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    other = changed(config, **{"model.weights": str(tmp_path / "gone.safetensors")})
    (tmp_path / "run" / "config.json").write_text(other.to_json())
    assert fingerprint(train(other, tmp_path / "run").state) == fingerprint(result.state)
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        train(other, tmp_path / "new")


def test_a_fit_is_made_again_if_it_would_be_another(run, tmp_path, monkeypatch):
    config, workdir, _, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    made = []

    def fit_decoder(predictor, source, *, step, fixed):
        made.append(fixed)
        return DecoderFit(step, {"decoder.h": 0.3}, 0.5, 0.4, [])

    monkeypatch.setattr(training, "fit_decoder", fit_decoder)
    for values, count in (
        ({}, 1),
        ({}, 1),
        ({"predict.fixed": ("decoder.h",)}, 2),
        ({"predict.flips": True}, 3),
    ):
        other = changed(config, **values)
        (tmp_path / "run" / "config.json").write_text(other.to_json())
        training.fit_run(other, tmp_path / "run", open_split(other, "validation"))
        assert len(made) == count
    # The step was trained again, with another result.
    decoder_fit.save(decoder_fit.load(tmp_path / "run")._replace(params="other"), tmp_path / "run")
    training.fit_run(other, tmp_path / "run", open_split(other, "validation"))
    assert len(made) == 4


def test_an_export_has_the_settings_that_the_run_uses(run, tmp_path, caplog):
    _, workdir, _, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    step = open_run(workdir).step
    for fitted, params, expected in (
        (step, None, {"decoder.h": 0.3}),
        (step + 1, None, {}),
        (step, "other", {}),
    ):
        fit = DecoderFit(fitted, {"decoder.h": 0.3}, 0.5, 0.4, [], params=params)
        decoder_fit.save(fit, tmp_path / "run")
        export_run(tmp_path / "run", tmp_path / "one.safetensors")
        assert load_network(tmp_path / "one.safetensors")[1]["decoder"] == expected
    assert f"was fitted for step {step + 1}, not for step {step}" in caplog.text


def test_a_run_is_evaluated_where_nothing_can_be_written(run, tmp_path):
    _, workdir, _, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    paths = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = [path.stat().st_mtime_ns for path in paths]
    evaluate_workdir(tmp_path / "run", "validation", folder=tmp_path / "report")
    assert (tmp_path / "report" / "index.html").exists()
    assert [tmp_path / "run", *(tmp_path / "run").rglob("*")] == paths
    assert [path.stat().st_mtime_ns for path in paths] == before


HOLD = """
import sys, time
from pathlib import Path
from segjax.experiment.workdir import lock_workdir
with lock_workdir(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_one_training_at_a_time_uses_a_folder(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "locked\n"
        config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
        with pytest.raises(
            InputError, match=rf"another training uses .* \(process {other.pid} on .*, since 2"
        ):
            train(config, tmp_path)
        assert not (tmp_path / "config.json").exists()
    finally:
        other.kill()
        other.communicate()
    for _ in range(2):  # the lock died with its process
        with lock_workdir(tmp_path):
            assert json.loads((tmp_path / "training.json").read_text())["process"] == os.getpid()
    assert not (tmp_path / "training.json").exists()


def test_a_damaged_workdir_is_named(tmp_path):
    with pytest.raises(InputError, match=r"model\.json"):
        read_metadata(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        read_config(tmp_path)


def test_an_image_smaller_than_the_patch_is_named(tmp_path):
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.data.patch_size = 1024
    with pytest.raises(InputError, match="smaller than"):
        train(config, tmp_path / "run")
