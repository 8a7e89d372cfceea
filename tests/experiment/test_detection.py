"""A detector from its config to its report, with external proposals."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from segjax.configs import rcnn
from segjax.data.records import Source
from segjax.errors import InputError
from segjax.experiment.decoder_fit import with_settings
from segjax.experiment.evaluation import evaluate_workdir
from segjax.experiment.export_formats import STANDARD, Exports
from segjax.experiment.methods import make_predictor, make_proposer, open_run
from segjax.experiment.prediction import predict
from segjax.experiment.prediction_methods import select_method
from segjax.experiment.proposal_cache import VERSION
from segjax.experiment.setup import make_setup, open_split, restore_params
from segjax.experiment.training import train
from segjax.experiment.workdir import ModelMetadata, read_config, read_metadata
from segjax.tasks import rcnn_svm
from tests.experiment.tiny import shrink


def small_config(method: str) -> ConfigDict:
    """The smallest detector that there can be."""
    backbone = "vgg16" if method == "fast_r_cnn" else "vgg16_fpn"
    config = shrink(rcnn.get_config(f"method={method},backbone={backbone},dataset=synthetic,size=small"))
    config.dataset.validation, config.dataset.test = "validation[:1]", "test[:2]"
    config.steps = config.train.validate_every = 2
    config.batch_size = 2
    config.model.update({"pyramid_channels": 4, "head_channels": 8, "mask_channels": 4, "bins": 3})
    config.task.propose.update({"pre_nms": 20, "post_nms": 20})
    config.task.detect.update({"max_detections": 20, "candidates": 40})
    return config


def setup_of(config):
    return make_setup(config, ModelMetadata(("background", "cell"), 1), jax.devices()[:1])


def reduce_layers(config):
    """Fewer layers, and fewer operations on each parameter: what takes time is to trace and compile them."""
    config.model.backbone = "vgg11_fpn"
    config.optimizer.name = "sgd"
    config.train.ema_decay = 0.0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of Fast R-CNN."""
    folder = tmp_path_factory.mktemp("objects")
    config = small_config("fast_r_cnn")
    config.dataset.data_dir = str(folder / "data")
    config.proposals = ConfigDict({"method": "watershed", "max_proposals": 30})
    train(config, folder / "run")
    return config, folder, evaluate_workdir(folder / "run", "test")


def test_is_evaluated_beside_the_reference(run):
    _, folder, table = run
    assert "model" in table
    assert "reference" in table
    metrics = json.loads((folder / "run" / "report" / "metrics.json").read_text())
    assert len(metrics["per_image"]["model"]) == 2
    recall, count = (metrics["proposals"][name] for name in ("recall", "mean_count"))
    assert 0 < recall <= 1
    assert f"proposals: {count:.0f} per image, recall {recall:.3f} at an IoU of" in table
    boxes = metrics["boxes"]
    truth = metrics["methods"]["model"]["all"]["n_true"]
    kinds = boxes["errors"]["all"]
    # This short training does not detect all.
    assert 0 < sum(one["truth"] for one in kinds.values()) <= truth
    assert set(boxes["coco"]["box"]) >= {"mean", "nucleus"}
    assert "mean_count" in (folder / "run" / "report" / "index.html").read_text()


def test_proposals_are_made_once_and_kept_beside_the_data(run):
    config, folder, _ = run
    stored = folder / "data" / "proposals" / f"watershed-{VERSION}"
    cached = list(stored.glob("*.npy"))
    assert cached
    source: Source = open_split(config, "test")
    before = {path: path.stat().st_mtime_ns for path in cached}
    boxes = make_proposer(config)(source[0].image)
    assert boxes.shape[1] == 4
    assert {path: path.stat().st_mtime_ns for path in cached} == before
    make_proposer(config)(np.zeros((50, 50, 1), np.uint8))
    assert len(list(stored.glob("*"))) == len(cached) + 1


def test_objects_are_found_in_pixels_of_the_image(run):
    config, folder, _ = run
    workdir = folder / "run"
    predictor = open_run(workdir).method
    # After this short training, no object has a high score.
    task = with_settings(predictor.task, {"detect.score_threshold": 0.0})
    predictor = dataclasses.replace(predictor, task=task)
    image = open_split(config, "test")[0].image
    detected = predictor.detect(image)
    assert detected["shape"].tolist() == list(image.shape[:2])
    # The network sees it at half the size, to which its boxes are limited.
    assert max(image.shape[:2]) / 2 < detected["boxes"].max() <= max(image.shape[:2])
    assert (np.diff(detected["scores"]) <= 0).all()


def test_unknown_proposals_and_flips_are_named(run):
    config, folder, _ = run
    wrong = ConfigDict(config.to_dict())
    wrong.proposals.method = "edge_boxes"
    with pytest.raises(InputError, match="choose one of selective_search, watershed, both, rpn"):
        make_proposer(wrong)
    workdir = folder / "run"
    wrong = read_config(workdir)
    wrong.predict.flips = True
    task, params, _ = restore_params(workdir, wrong, read_metadata(workdir))
    with pytest.raises(InputError, match=r"config.predict.flips=True averages maps"):
        make_predictor(wrong, task, params)


@pytest.fixture(scope="module")
def alternated(tmp_path_factory):
    """Three runs in turn: an RPN, a Fast R-CNN on its boxes, then an RPN on that one's backbone."""
    folder = tmp_path_factory.mktemp("alternated")

    def finish(name, method, **overrides):
        config = small_config(method)
        reduce_layers(config)
        config.dataset.train, config.dataset.data_dir = "train[:3]", str(folder / "data")
        config.steps, config.train.validate_every = 1, 0
        config.optimizer.warmup = 0
        config.predict.checkpoint = "latest"
        config.update_from_flattened_dict(overrides)
        train(config, folder / name)
        workdir = folder / name
        return config, restore_params(workdir, read_config(workdir), read_metadata(workdir))[1]

    rpn_alone = {"task.weights.classes": 0.0, "task.weights.boxes": 0.0}
    heads = ("backbone", "box_features", "box_predictor")
    optimised = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    runs = {"1": finish("1", "faster_r_cnn", **rpn_alone)}
    boxes = {"proposals.method": "rpn", "proposals.workdir": str(folder / "1")}
    runs["2"] = finish("2", "fast_r_cnn", **boxes)
    before = {"model.weights": str(folder / "2"), "model.frozen": heads}
    runs["3"] = finish("3", "faster_r_cnn", **rpn_alone, **before)
    yield folder, runs
    jax.config.update("jax_disable_most_optimizations", optimised)


def equal(one, another):
    return all(
        (np.asarray(a) == np.asarray(b)).all()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(another), strict=True)
    )


def test_rpn_and_head_are_trained_alternately(alternated):
    _, runs = alternated
    params = {name: result for name, (_, result) in runs.items()}
    assert equal(params["2"]["backbone"], params["3"]["backbone"])
    for part in ("backbone", "box_features", "box_predictor"):
        assert equal(params["2"][part], params["3"][part])
        assert not equal(params["1"][part], params["2"][part])
    assert not equal(params["1"]["rpn"], params["3"]["rpn"])


def test_the_boxes_of_a_run_are_kept_by_its_parameters(alternated):
    folder, runs = alternated
    cached = {path.name: len(list(path.glob("*.npy"))) for path in (folder / "data" / "proposals").iterdir()}
    ((name, count),) = cached.items()
    assert name.startswith("rpn-")
    assert count > 0
    config = ConfigDict(runs["2"][0].to_dict())
    image = open_split(config, "test")[0].image
    boxes = make_proposer(config)(image)
    assert 0 < len(boxes) <= 20 * 4
    assert boxes.max() <= max(image.shape)
    digest = open_run(folder / "2").digest
    config.proposals.workdir = str(folder / "3")
    assert not np.array_equal(make_proposer(config)(image), boxes)
    assert len(list((folder / "data" / "proposals").iterdir())) == 2

    # Other proposals are another method, though the path of their run is the same.
    shutil.copytree(folder / "2", folder / "2 on 3")
    written = read_config(folder / "2")
    written.proposals.workdir = str(folder / "link")
    (folder / "2 on 3" / "config.json").write_text(written.to_json())
    digests = []
    for name in ("1", "3"):
        (folder / "link").unlink(missing_ok=True)
        (folder / "link").symlink_to(folder / name)
        digests.append(open_run(folder / "2 on 3").digest)
    assert len({*digests, digest}) == 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("proposals.workdir", None, "needs config.proposals.workdir"),
        ("proposals.workdir", "2", "has no RPN: give a run of faster_r_cnn"),
        (
            "model.frozen",
            ("neck",),
            "config.model.frozen='neck' .* backbone, box_features",
        ),
    ],
)
def test_names_what_a_stage_lacks(alternated, field, value, message):
    folder, runs = alternated
    config = ConfigDict(runs["2"][0].to_dict())
    config.update_from_flattened_dict({field: str(folder / value) if value == "2" else value})
    function = make_proposer if field.startswith("proposals") else setup_of
    with pytest.raises(InputError, match=message):
        function(config)


def test_predictions_are_written_as_coco(alternated):
    folder, runs = alternated
    config, _ = runs["3"]
    images = folder / "images"
    images.mkdir()
    image = open_split(config, "test")[0].image
    Image.fromarray(image[..., 0]).save(images / "cells.png")
    chosen = select_method([folder / "3"])
    list(predict(chosen, images, folder / "out", exports=Exports((*STANDARD, "coco"))))
    predictions = json.loads((folder / "out" / "predictions.json").read_text())
    assert predictions["images"] == [
        {"id": 1, "file_name": "cells.png", "height": image.shape[0], "width": image.shape[1]}
    ]
    outputs = chosen.method.detect(image)
    np.testing.assert_allclose([a["score"] for a in predictions["annotations"]], outputs["scores"])
    assert len(predictions["categories"]) == len(chosen.class_names) - 1
    again = predict(
        select_method([folder / "3"]), images, folder / "out", exports=Exports((*STANDARD, "coco"))
    )
    list(again)
    assert "(1 of them finished before)" in again.summary
    assert json.loads((folder / "out" / "predictions.json").read_text()) == predictions


def test_r_cnn_ends_with_svms(tmp_path):
    config = small_config("r_cnn")
    config.dataset.train, config.dataset.data_dir = "train[:3]", str(tmp_path / "data")
    config.proposals = ConfigDict({"method": "watershed", "max_proposals": 30})
    config.model.update({"crop_side": 16, "crop_context": 2})
    workdir = tmp_path / "run"
    train(config, workdir)
    predictor = open_run(workdir).method
    assert not np.asarray(predictor.params["box_predictor"]["logits"]["kernel"])[:, 0].any()
    detected = predictor.detect(open_split(config, "test")[0].image)
    assert detected["boxes"].shape[1] == 4
    modified = (workdir / "svm.safetensors").stat().st_mtime_ns
    train(config, workdir)
    assert (workdir / "svm.safetensors").stat().st_mtime_ns == modified
    # Those of another step, or of other parameters, are fitted again.
    step = rcnn_svm.stored_step(workdir)
    for number, network in ((1, ""), (step, "other")):
        rcnn_svm.save(predictor.params["box_predictor"], workdir, number, network=network)
        train(config, workdir)
        assert rcnn_svm.stored_step(workdir, network="other") is None
        assert rcnn_svm.stored_step(workdir) == open_run(workdir).step == step != 1
